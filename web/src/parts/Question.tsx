import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { say, type Asked } from '../conversations'
import { Pencil } from './icons'

export function Question({ asked, n }: { asked: Asked; n: number }) {
  const [editing, setEditing] = useState(false)
  return (
    <article class="question" aria-label={`Question ${n}`}>
      <h2 class="hidden">You asked</h2>
      {editing ? (
        <Editor asked={asked} done={() => setEditing(false)} />
      ) : (
        <>
          <div class="bubble" dir="auto">{asked.text}</div>
          <div class="acts">
            <button type="button" class="act" onClick={() => setEditing(true)} aria-label="Edit this question" title="Edit">
              <Pencil size={16} />
            </button>
          </div>
        </>
      )}
    </article>
  )
}

function Editor({ asked, done }: { asked: Asked; done: () => void }) {
  const field = useRef<HTMLTextAreaElement>(null)
  const [text, setText] = useState(asked.text)
  useLayoutEffect(() => {
    field.current!.focus()
    field.current!.setSelectionRange(text.length, text.length)
  }, [])
  function ask(event: Event) {
    event.preventDefault()
    if (!text.trim()) return
    done()
    void say(text, asked)
  }
  return (
    <form class="editor" onSubmit={ask}>
      <textarea
        ref={field}
        aria-label="Edit your question"
        rows={Math.min(8, text.split('\n').length + 1)}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.preventDefault()
            done()
          }
          if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) ask(event)
        }}
      />
      <div class="row end">
        <button type="button" class="button quiet" onClick={done}>
          Cancel
        </button>
        <button type="submit" class="button">
          Ask again
        </button>
      </div>
    </form>
  )
}
