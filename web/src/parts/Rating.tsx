import { useRef, useState } from 'preact/hooks'
import { post, type Refused } from '../api'
import type { Answer } from '../conversations'
import { Down, Up } from './icons'

/** Thumbs at once, and a word about it who wants to. */
export function Rating({ answer }: { answer: Answer }) {
  const [asking, setAsking] = useState(false)
  const [said, setSaid] = useState('')
  const rating = answer.rating.value

  async function rate(score: number) {
    const before = rating
    answer.rating.value = score
    try {
      await post('v1/feedback', { call_id: answer.callId, score })
      setSaid('')
      setAsking(true)
    } catch (failure) {
      answer.rating.value = before
      setAsking(false)
      setSaid((failure as Refused).message)
    }
  }

  return (
    <>
      <button type="button" class="act" aria-pressed={rating === 1} aria-label="Good answer" title="Good answer" onClick={() => void rate(1)}>
        <Up size={16} />
      </button>
      <button type="button" class="act" aria-pressed={rating === 0} aria-label="Bad answer" title="Bad answer" onClick={() => void rate(0)}>
        <Down size={16} />
      </button>
      <span class="said" role="status">
        {said}
      </span>
      {asking && (
        <Comment
          answer={answer}
          done={(thanks) => {
            setAsking(false)
            setSaid(thanks)
          }}
        />
      )}
    </>
  )
}

function Comment({ answer, done }: { answer: Answer; done: (said: string) => void }) {
  const field = useRef<HTMLTextAreaElement>(null)
  const [fault, setFault] = useState('')
  async function send(event: Event) {
    event.preventDefault()
    const comment = field.current!.value.trim()
    if (!comment) return done('Thank you.')
    try {
      await post('v1/feedback', { call_id: answer.callId, comment })
      done('Thank you.')
    } catch (failure) {
      setFault((failure as Refused).message)
    }
  }
  function leave(event: KeyboardEvent) {
    if (event.key !== 'Escape') return
    event.preventDefault()
    done('Thank you.')
  }
  return (
    <form class="comment" onSubmit={(event) => void send(event)} onKeyDown={leave}>
      <label>
        {answer.rating.value === 1 ? 'What was good about it?' : 'What was wrong, or missing?'} <span class="soft">Optional</span>
        <textarea ref={field} rows={2} maxLength={10_000} />
      </label>
      {fault && <p class="field-fault">{fault}</p>}
      <div class="row end">
        <button type="button" class="button quiet" onClick={() => done('Thank you.')}>
          No, thanks
        </button>
        <button type="submit" class="button">
          Send
        </button>
      </div>
    </form>
  )
}
