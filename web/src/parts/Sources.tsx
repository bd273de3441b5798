import { useEffect, useRef, useState } from 'preact/hooks'
import { explain, type Call } from '../calls'
import type { Answer } from '../conversations'
import { claims, evidence, located } from '../evidence'
import { textOf } from '../knowledge'
import { inWidget } from '../settings'
import type { Source } from '../stream'

export function Sources({ answer, n, question }: { answer: Answer; n: number | null; question: string }) {
  const call = useCall(answer)
  return (
    <ol class="source-list">
      {answer.sources.value.map((source, order) => (
        <Card
          key={order}
          source={source}
          n={order + 1}
          opened={n === order + 1}
          passage={call?.passages?.find((each) => each.n === order + 1)?.text ?? null}
          claim={claims(answer.text.value, order + 1, question)}
        />
      ))}
    </ol>
  )
}

interface CardProps {
  source: Source
  n: number
  opened: boolean
  passage: string | null
  claim: string
}

function Card({ source, n, opened, passage, claim }: CardProps) {
  const place = useRef<HTMLLIElement>(null)
  useEffect(() => {
    if (!opened) return
    place.current!.scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' })
    place.current!.querySelector<HTMLElement>('h3')!.focus({ preventScroll: true })
  }, [opened])
  const heading = (source.title || source.document_id).split(' > ')
  const web = /^https?:\/\//.test(source.url ?? '')
  return (
    <li ref={place} class={opened ? 'source opened' : 'source'}>
      <h3 tabIndex={-1}>
        <b aria-hidden="true">{n}</b>
        <span>
          <span class="hidden">Source {n}: </span>
          {heading.at(-1)}
        </span>
      </h3>
      <p class="where">
        {heading.length > 1 && <>{heading.slice(0, -1).join(' › ')} · </>}
        {web ? (
          <a href={source.url} target="_blank" rel="noopener noreferrer nofollow">
            {new URL(source.url).hostname}
          </a>
        ) : (
          source.url || source.collection
        )}{' '}
        · match {score(source.score)}
      </p>
      <Passage text={passage ?? source.quote} claim={claim} cut={passage === null && source.quote.length >= 300} />
      {!inWidget && <WholeDocument source={source} passage={passage ?? source.quote} />}
    </li>
  )
}

function Passage({ text, claim, cut }: { text: string; claim: string; cut: boolean }) {
  return (
    <blockquote class="passage">
      {evidence(text.trim(), claim).map((part, order) => (part.marked ? <mark key={order}>{part.text}</mark> : part.text))}
      {cut && '…'}
    </blockquote>
  )
}

/** A file of a vector store can be read whole; its passage stands out in it. */
function WholeDocument({ source, passage }: { source: Source; passage: string }) {
  const [text, setText] = useState<string | null>(null)
  const [fault, setFault] = useState('')
  const mark = useRef<HTMLElement>(null)
  const [store, file] = source.document_id.split('/')
  useEffect(() => mark.current?.scrollIntoView({ block: 'center' }), [text])
  if (!store?.startsWith('vs_') || !file) return null
  if (text === null) {
    return (
      <>
        <button
          type="button"
          class="link"
          onClick={() => textOf(store, file, new AbortController().signal).then(setText, (failure: Error) => setFault(failure.message))}
        >
          Show it in the document
        </button>
        {fault && <p class="field-fault">{fault}</p>}
      </>
    )
  }
  const [from, to] = located(text, passage)
  return (
    <div class="document" tabIndex={0} role="region" aria-label="The document">
      {text.slice(0, from)}
      <mark ref={mark}>{text.slice(from, to)}</mark>
      {text.slice(to)}
    </div>
  )
}

/** The call's record has passages whole, where the model's content is recorded and this key may see it. */
function useCall(answer: Answer): Call | null {
  const [call, setCall] = useState<Call | null>(null)
  useEffect(() => {
    setCall(null)
    if (answer.callId && !inWidget) explain(answer.callId).then(setCall, () => {})
  }, [answer])
  return call
}

function score(value: number): string {
  return value.toFixed(2)
}
