import { useEffect, useState } from 'preact/hooks'
import { explain } from '../calls'
import { retry, type Answer } from '../conversations'
import { panel, show } from '../panel'
import { inWidget } from '../settings'
import { FaultCard } from './FaultCard'
import { Rating } from './Rating'
import { Text } from './Text'
import { Again, Book, Check, Copy, Path, Shield } from './icons'
import { copied, cost, duration, tokens } from './words'

export function Reply({ answer, question, n, last }: { answer: Answer; question: string; n: number; last: boolean }) {
  const state = answer.state.value
  const text = answer.text.value
  const sources = answer.sources.value
  const finished = state === 'done' || state === 'stopped' || (state === 'failed' && text !== '')
  useCost(answer)

  function open(event: Event) {
    const target = event.target as HTMLElement
    const cited = target.closest<HTMLElement>('[data-source]')
    if (cited) show({ kind: 'sources', answer, n: Number(cited.dataset.source), question })
    const code = target.closest<HTMLElement>('[data-copy]')
    if (code) void copied(code.closest('.code')!.querySelector('code')!.textContent ?? '', code)
  }

  return (
    <article class="reply" aria-label={`Answer ${n}`} aria-busy={answer.busy}>
      <h2 class="hidden">Answer</h2>
      {state === 'waiting' && !answer.thought.value && (
        <p class="waiting">
          <span class="pulse" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          <span class="hidden">Waiting for the answer</span>
        </p>
      )}
      {answer.thought.value && (
        <details class="thought">
          <summary>Reasoning</summary>
          <div>{answer.thought.value}</div>
        </details>
      )}
      {/* The buttons within are elements of their own; this only hears their clicks. */}
      <div onClick={open}>{text && <Text text={text} sources={sources.length} growing={state === 'streaming'} />}</div>
      {state === 'stopped' && <p class="note">Stopped{text ? ' here' : ' before it began'}.</p>}
      {answer.cut.value && (
        <p class="note warn">
          <Shield size={16} /> A guardrail ended or changed this answer.
        </p>
      )}
      {answer.degraded && state === 'done' && <p class="note">Answered without: {answer.degraded.replaceAll('_', ' ')}.</p>}
      {answer.fault.value && <FaultCard answer={answer} fault={answer.fault.value} last={last} />}
      {finished && sources.length > 0 && <Sources answer={answer} question={question} />}
      {finished && (
        <footer class="acts">
          {text && <CopyButton text={text} />}
          {answer.callId && text && <Rating answer={answer} />}
          {last && (
            <button type="button" class="act" onClick={() => void retry(answer)} aria-label="Answer again" title="Answer again">
              <Again size={16} />
            </button>
          )}
          {answer.callId && !inWidget && (
            <button
              type="button"
              class="act worded"
              aria-expanded={panel.value?.kind === 'why' && panel.value.answer === answer}
              onClick={() => show({ kind: 'why', answer })}
            >
              <Path size={16} /> Why this answer
            </button>
          )}
          <Line answer={answer} />
        </footer>
      )}
    </article>
  )
}

function Sources({ answer, question }: { answer: Answer; question: string }) {
  const named = new Set([...answer.text.value.matchAll(/\[(\d{1,2})\]/g)].map((mark) => Number(mark[1])))
  const entries = answer.sources.value.map((source, order) => ({ source, n: order + 1 }))
  const shown = entries.filter(({ n }) => named.has(n))
  const first = shown.length > 0 ? shown : entries.slice(0, 3)
  return (
    <ul class="sources" aria-label="Sources">
      {first.slice(0, 4).map(({ source, n }) => (
        <li key={n}>
          <button type="button" class="chip" onClick={() => show({ kind: 'sources', answer, n, question })}>
            <b aria-hidden="true">{n}</b>
            <span>{short(source.title || source.document_id)}</span>
          </button>
        </li>
      ))}
      <li>
        <button type="button" class="chip all" onClick={() => show({ kind: 'sources', answer, n: null, question })}>
          <Book size={15} /> {entries.length === 1 ? '1 source' : `All ${entries.length} sources`}
        </button>
      </li>
    </ul>
  )
}

function short(title: string): string {
  return title.split(' > ').at(-1)!
}

function CopyButton({ text }: { text: string }) {
  const [done, setDone] = useState(false)
  return (
    <button
      type="button"
      class="act"
      aria-label={done ? 'Copied' : 'Copy the answer'}
      title="Copy"
      onClick={() => {
        void navigator.clipboard?.writeText(text).then(() => {
          setDone(true)
          setTimeout(() => setDone(false), 1500)
        })
      }}
    >
      {done ? <Check size={16} /> : <Copy size={16} />}
    </button>
  )
}

function Line({ answer }: { answer: Answer }) {
  const usage = answer.usage.value
  const facts = [
    answer.seconds.value !== null && duration(answer.seconds.value * 1000),
    usage && tokens(usage.prompt_tokens, usage.completion_tokens),
    answer.cost.value !== null && cost(answer.cost.value),
    (answer.cache === 'hit' || answer.cache === 'semantic') && 'from the cache',
  ].filter(Boolean)
  return <p class="line">{facts.join(' · ')}</p>
}

/** What it cost stands in the call's record, which is there a moment after the answer. */
function useCost(answer: Answer) {
  const done = answer.state.value === 'done'
  useEffect(() => {
    if (!done || inWidget || !answer.callId || answer.cost.peek() !== null) return
    explain(answer.callId).then(
      (call) => (answer.cost.value = call.cost ?? null),
      () => {},
    )
  }, [done])
}
