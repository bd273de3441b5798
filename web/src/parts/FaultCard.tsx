import { useEffect, useState } from 'preact/hooks'
import { retry, type Answer, type Fault } from '../conversations'
import { standing } from '../models'
import { Alert, Clock, Shield } from './icons'

interface Told {
  title: string
  advice?: string
  icon: typeof Alert
  again: boolean
}

/** What went wrong, and what to do about it. The gateway's own sentence stands between the two. */
function told({ status, code }: Fault): Told {
  if (code === 'content_filter') {
    return { title: 'A guardrail stopped this', advice: 'Edit your question above and leave that out.', icon: Shield, again: false }
  }
  if (code === 'insufficient_quota') {
    return { title: 'The budget is used up', advice: 'Whoever gave you the key can raise it.', icon: Clock, again: true }
  }
  if (status === 429) return { title: 'Too many questions at once', icon: Clock, again: true }
  if (status === 401) return { title: 'This key is not accepted', icon: Alert, again: false }
  if (code === 'model_not_found') {
    return { title: 'This model is not there for you', advice: 'Choose another one above.', icon: Alert, again: true }
  }
  if (code === 'broken_off' || status === 200) {
    return { title: 'The answer broke off', advice: 'What came before is above, as far as it came.', icon: Alert, again: true }
  }
  if (status === 0) return { title: 'No answer', advice: 'Check your connection, then try again.', icon: Alert, again: true }
  if (status === 503) return { title: 'Not right now', icon: Clock, again: true }
  if (status >= 500) {
    return { title: 'The model could not answer', advice: 'Nothing is lost. Try again, or choose another model.', icon: Alert, again: true }
  }
  return { title: 'This could not be asked', icon: Alert, again: status !== 400 && status !== 413 }
}

export function FaultCard({ answer, fault, last }: { answer: Answer; fault: Fault; last: boolean }) {
  const { title, advice, icon: Icon, again } = told(fault)
  const left = useSecondsUntil(fault.retryAt)
  return (
    <div class={Icon === Alert ? 'fault' : 'fault mild'} role="alert">
      <Icon size={20} />
      <div>
        <h3>{title}</h3>
        <p>{fault.message}</p>
        {advice && <p>{advice}</p>}
        <div class="row">
          {again && last && (
            <button type="button" class="button" disabled={left > 0} onClick={() => void retry(answer)}>
              {left > 0 ? <>Try again in {wait(left)}</> : 'Try again'}
            </button>
          )}
          {fault.status === 401 && (
            <button type="button" class="button" onClick={() => (standing.value = 'needs-key')}>
              Enter a key
            </button>
          )}
          {answer.callId && <code class="id">{answer.callId}</code>}
        </div>
      </div>
    </div>
  )
}

function useSecondsUntil(moment: number | null): number {
  const [now, setNow] = useState(Date.now())
  const left = moment === null ? 0 : Math.max(0, Math.ceil((moment - now) / 1000))
  useEffect(() => {
    if (left <= 0) return
    const timer = setTimeout(() => setNow(Date.now()), 1000)
    return () => clearTimeout(timer)
  })
  return left
}

function wait(seconds: number): string {
  if (seconds < 90) return `${seconds} s`
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`
  return seconds < 129_600 ? `${Math.ceil(seconds / 3600)} h` : `${Math.ceil(seconds / 86_400)} days`
}
