import type { ComponentChildren } from 'preact'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { dialog } from '../panel'
import { Cross } from './icons'

/** The browser's own modal dialog: it keeps the focus, closes with Escape, and gives the focus back. */
export function Dialog({ title, children }: { title: string; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => {
    const element = box.current!
    element.showModal()
    return () => element.close()
  }, [])
  return (
    <dialog
      ref={box}
      aria-labelledby="dialog-title"
      onClose={() => (dialog.value = null)}
      onClick={(event) => event.target === box.current && box.current!.close()}
    >
      <div class="dialog">
        <header>
          <h2 id="dialog-title">{title}</h2>
          <button type="button" class="act" onClick={() => box.current!.close()} aria-label="Close">
            <Cross />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  )
}
