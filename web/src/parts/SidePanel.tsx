import { useLayoutEffect, useRef } from 'preact/hooks'
import { close, panel } from '../panel'
import { Sources } from './Sources'
import { Why } from './Why'
import { Cross } from './icons'

export function SidePanel() {
  const box = useRef<HTMLElement>(null)
  const shown = panel.value
  const title = shown?.kind === 'why' ? 'Why this answer' : 'Sources'

  useLayoutEffect(() => {
    // What was asked for by keyboard is read from its top; a source that was named takes the focus itself.
    if (shown && !(shown.kind === 'sources' && shown.n !== null)) box.current?.querySelector('h2')?.focus()
  }, [shown])

  if (!shown) return null
  function leave(event: KeyboardEvent) {
    if (event.key !== 'Escape') return
    event.preventDefault() // it closes this, not the widget around it
    close()
  }
  return (
    <aside class="panel" ref={box} aria-label={title} onKeyDown={leave}>
      <header>
        <h2 tabIndex={-1}>{title}</h2>
        <button type="button" class="act" onClick={close} aria-label="Close" title="Close (Esc)">
          <Cross />
        </button>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label={`${title}, contents`}>
        {shown.kind === 'sources' ? <Sources answer={shown.answer} n={shown.n} question={shown.question} /> : <Why answer={shown.answer} />}
      </div>
    </aside>
  )
}
