import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { current, running, say, stop } from '../conversations'
import { chosen, hasStores } from '../models'
import { dialog } from '../panel'
import { settings } from '../settings'
import { Book, Send, Square } from './icons'

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null)
  const [text, setText] = useState('')
  const busy = running.value !== null
  const stores = current.value.stores.value.length

  useLayoutEffect(() => {
    if (matchMedia('(hover: hover)').matches) field.current!.focus()
  }, [current.value])

  useLayoutEffect(() => {
    // As high as its text, within what the style allows.
    field.current!.style.height = 'auto'
    field.current!.style.height = `${field.current!.scrollHeight}px`
  }, [text])

  function ask(event: Event) {
    event.preventDefault()
    if (!text.trim() || busy || !chosen.value) return
    setText('')
    void say(text.trim())
  }

  return (
    <form class="composer" onSubmit={ask}>
      <div class="field">
        <label class="hidden" for="question">
          Your question
        </label>
        <textarea
          id="question"
          dir="auto"
          ref={field}
          rows={1}
          placeholder="Ask something"
          value={text}
          enterkeyhint="send"
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) ask(event)
            if (event.key === 'Escape' && busy) {
              event.preventDefault()
              stop()
            }
          }}
        />
        <div class="row">
          {hasStores.value && (
            <button type="button" class="act worded" onClick={() => (dialog.value = 'knowledge')}>
              <Book size={17} /> {stores ? `${stores} ${stores === 1 ? 'collection' : 'collections'}` : 'Documents'}
            </button>
          )}
          <span class="grow" />
          {busy ? (
            <button type="button" class="send" onClick={stop} aria-label="Stop" title="Stop (Esc)">
              <Square />
            </button>
          ) : (
            <button type="submit" class="send" disabled={!text.trim() || !chosen.value} aria-label="Ask" title="Ask (Enter)">
              <Send />
            </button>
          )}
        </div>
      </div>
      {settings.notice && <p class="notice">{settings.notice}</p>}
    </form>
  )
}
