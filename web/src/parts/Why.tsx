import { useEffect, useState } from 'preact/hooks'
import type { Refused } from '../api'
import { explain, type Call } from '../calls'
import type { Answer } from '../conversations'
import { show } from '../panel'
import { copied, cost, duration, many, tokens } from './words'

/** How an answer came about, from the record of its call. */
export function Why({ answer }: { answer: Answer }) {
  const [call, setCall] = useState<Call | null>(null)
  const [fault, setFault] = useState<Refused | null>(null)
  useEffect(() => {
    setCall(null)
    setFault(null)
    explain(answer.callId!).then(setCall, setFault)
  }, [answer])
  if (fault) {
    return (
      <div class="empty">
        <p>{fault.status === 403 ? 'This key may not look at calls.' : fault.message}</p>
        <p>
          The call is <code>{answer.callId}</code>.
        </p>
      </div>
    )
  }
  if (!call) {
    return (
      <div class="skeleton" role="status">
        <span class="hidden">Reading the record</span>
        <i />
        <i />
        <i />
        <i />
      </div>
    )
  }
  return (
    <div class="why">
      <p class="summary">{summary(call)}</p>
      <Times call={call} />
      {call.passages && call.passages.length > 0 && (
        <section>
          <h3>What it was given</h3>
          <ul class="plain">
            {call.passages.map((passage) => (
              <li key={passage.n}>
                <button type="button" class="given" onClick={() => show({ kind: 'sources', answer, n: passage.n, question: '' })}>
                  <b aria-hidden="true">{passage.n}</b> <span>{passage.heading?.at(-1) ?? passage.title ?? passage.document_id}</span>
                  {passage.score !== undefined && <span class="soft">{passage.score.toFixed(2)}</span>}
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
      {call.guardrails && call.guardrails.length > 0 && (
        <section>
          <h3>Guardrails</h3>
          <ul class="plain">
            {call.guardrails.map((verdict, order) => (
              <li key={order}>
                <span class={`tag ${verdict.action ?? ''}`}>{verdict.action}</span> {verdict.check} <span class="soft">{verdict.stage}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      {call.attempts && call.attempts.length > 0 && (
        <section>
          <h3>{call.attempts.length === 1 ? 'Who answered' : 'Who was asked'}</h3>
          <ul class="plain">
            {call.attempts.map((attempt, order) => (
              <li key={order}>
                <span class={`tag ${attempt.outcome === 'ok' ? '' : 'block'}`}>{attempt.outcome}</span> {attempt.target}{' '}
                <span class="soft">{duration(attempt.ms)}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <Facts call={call} />
      <details class="raw">
        <summary>The whole record</summary>
        <button type="button" class="link" onClick={(event) => void copied(JSON.stringify(call, null, 2), event.currentTarget)}>
          Copy
        </button>
        <pre tabIndex={0} role="region" aria-label="The whole record">
          {JSON.stringify(call, null, 2)}
        </pre>
      </details>
    </div>
  )
}

function summary(call: Call): string {
  const from = call.cache === 'hit' ? 'from the cache' : call.cache === 'semantic' ? 'from the cache, by meaning' : `by ${call.target ?? 'nobody'}`
  const passages = call.passages?.length ? ` with ${many(call.passages.length, 'passage')}` : ''
  const prompt = call.template?.reference ? ` and the prompt ${call.template.reference}` : ''
  const total = call.timings?.total_ms
  return `Answered ${from}${passages}${prompt}${total ? `, in ${duration(total)}` : ''}.`
}

function Times({ call }: { call: Call }) {
  const first = call.timings?.first_chunk_ms
  const total = call.timings?.total_ms
  const stages: { name: string; start_ms: number; ms: number; after?: boolean }[] = [...(call.stages ?? [])]
  if (first && total && total - first >= 1) stages.push({ name: 'writing the answer', start_ms: first, ms: total - first, after: true })
  const whole = Math.max(call.timings?.total_ms ?? 0, ...stages.map((stage) => stage.start_ms + stage.ms), 0.001)
  if (stages.length === 0) return null
  return (
    <section>
      <h3>Where the time went</h3>
      <table class="times">
        <thead class="hidden">
          <tr>
            <th>Stage</th>
            <th>When</th>
            <th>Took</th>
          </tr>
        </thead>
        <tbody>
          {stages.map((stage, order) => (
            <tr key={order}>
              <th scope="row">{stage.name.replaceAll('_', ' ')}</th>
              <td class="track">
                <i
                  class={stage.after ? 'after' : ''}
                  style={{ left: `${(stage.start_ms / whole) * 100}%`, width: `max(2px, ${(stage.ms / whole) * 100}%)` }}
                />
              </td>
              <td>{duration(stage.ms)}</td>
            </tr>
          ))}
          <tr class="total">
            <th scope="row">in all</th>
            <td class="track" />
            <td>{duration(whole)}</td>
          </tr>
        </tbody>
      </table>
    </section>
  )
}

/** What was found and left out, by the reason. */
function counted(dropped: { why?: string }[]): string {
  const counts = new Map<string, number>()
  for (const { why = 'other' } of dropped) counts.set(why, (counts.get(why) ?? 0) + 1)
  return [...counts].map(([why, count]) => `${count} ${why.replaceAll('_', ' ')}`).join(', ')
}

function Facts({ call }: { call: Call }) {
  const facts: [string, string | undefined | null | false][] = [
    ['Model', call.model],
    ['Answered by', call.served_model && call.served_model !== call.target ? `${call.target}, as ${call.served_model}` : call.target],
    ['Prompt', call.template?.reference],
    ['Cache', call.cache],
    ['Tokens', call.usage && `${tokens(call.usage.prompt_tokens, call.usage.completion_tokens)}${call.usage.estimated ? ', estimated' : ''}`],
    ['Cost', call.cost !== null && call.cost !== undefined && cost(call.cost)],
    ['Done without', call.degraded?.join(', ')],
    ['Searched for', call.searched?.queries?.map((query) => `“${query}”`).join(', ')],
    ['Found, not used', counted(call.dropped ?? [])],
    ['Quality', call.quality?.map(({ measure, score }) => `${measure} ${score?.toFixed(2) ?? '–'}`).join(', ')],
    ['User features', call.features && Object.keys(call.features).join(', ')],
    ['Configuration', call.config_revision],
    ['Call', call.id],
  ]
  return (
    <section>
      <h3>Details</h3>
      <dl>
        {facts
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </section>
  )
}
