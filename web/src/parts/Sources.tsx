import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { explain, type Call } from '../calls'
import type { Answer } from '../conversations'
import { claims, highlight, located } from '../evidence'
import { textOf } from '../knowledge'
import { blocks, elements } from '../markdown'
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
  const [whole, setWhole] = useState(opened)
  useLayoutEffect(() => {
    if (!opened) return
    setWhole(true)
    const card = place.current!
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches
    card.closest('.scroll')!.scrollTo({ top: card.offsetTop - 8, behavior: still ? 'auto' : 'smooth' })
    card.querySelector('button')!.focus({ preventScroll: true })
  }, [opened])
  const heading = (source.title || source.document_id).split(' > ')
  const site = siteOf(source.url ?? '')
  return (
    <li ref={place} class={`source${whole ? ' whole' : ''}${opened ? ' opened' : ''}`}>
      <h3>
        <button type="button" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          <b aria-hidden="true">{n}</b>
          <span>
            <span class="hidden">Source {n}: </span>
            {heading.at(-1)}
          </span>
        </button>
      </h3>
      <p class="where">
        {heading.length > 1 && <>{heading.slice(0, -1).join(' › ')} · </>}
        {site ? (
          <a href={source.url} target="_blank" rel="noopener noreferrer nofollow">
            {site}
          </a>
        ) : (
          source.url || source.collection
        )}{' '}
        · match {score(source.score)}
      </p>
      <Document source={source} passage={passage ?? source.quote}>
        <Passage text={passage ?? source.quote} claim={claim} cut={passage === null && source.quote.length >= 300} />
      </Document>
    </li>
  )
}

function Passage({ text, claim, cut }: { text: string; claim: string; cut: boolean }) {
  const place = useRef<HTMLQuoteElement>(null)
  useLayoutEffect(() => {
    const shown = blocks(cut ? `${text.trim()}…` : text.trim())
    if (shown[0]?.type === 'heading' && shown.length > 1) shown.shift() // it stands above
    place.current!.replaceChildren(...shown.map((block) => elements(block, null)))
    highlight(place.current!, claim)
  }, [text, claim, cut])
  return <blockquote class="passage prose" ref={place} />
}

/** The passage (`children`); a file of a vector store can be read whole, and the passage stands out in it. */
function Document({ source, passage, children }: { source: Source; passage: string; children: ComponentChildren }) {
  const [text, setText] = useState<string | null>(null)
  const [fault, setFault] = useState('')
  const box = useRef<HTMLDivElement>(null)
  const [store, file] = source.document_id.split('/')
  useEffect(() => {
    const mark = box.current?.querySelector('mark')
    if (mark) box.current!.scrollTop = mark.offsetTop - 40
  }, [text])
  if (inWidget || !store?.startsWith('vs_') || !file) return <>{children}</>
  if (text === null) {
    return (
      <>
        {children}
        <button type="button" class="link" onClick={() => textOf(store, file).then(setText, (failure: Error) => setFault(failure.message))}>
          Show it in the document
        </button>
        {fault && <p class="field-fault">{fault}</p>}
      </>
    )
  }
  const [from, to] = located(text, passage)
  return (
    <div class="document" ref={box} tabIndex={0} role="region" aria-label="The document">
      {text.slice(0, from)}
      <mark>{text.slice(from, to)}</mark>
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

/** The host of a web page's address; "" for whatever else stands there, and for what no browser could open. */
function siteOf(url: string): string {
  try {
    return /^https?:\/\//i.test(url) ? new URL(url).hostname : ''
  } catch {
    return ''
  }
}

function score(value: number): string {
  return value.toFixed(2)
}
