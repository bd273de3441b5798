import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Answer, current, say, told, type Turn } from '../conversations'
import { chosen, description, models } from '../models'
import { settings } from '../settings'
import { Question } from './Question'
import { Reply } from './Reply'
import { Lower } from './icons'

const NEAR = 80 // pixels from the end within which the page follows what is written

export function Thread({ greeting = settings.greeting }: { greeting?: string }) {
  const turns = current.value.turns.value
  const box = useRef<HTMLDivElement>(null)
  const inner = useRef<HTMLDivElement>(null)
  const [away, setAway] = useState(false)
  const follows = useRef(true)
  const top = useRef(0)

  useLayoutEffect(() => {
    follows.current = true
    box.current!.scrollTop = box.current!.scrollHeight
  }, [current.value, turns.length])

  useEffect(() => {
    const watcher = new ResizeObserver(() => {
      const element = box.current
      if (!element) return // it has gone meanwhile
      if (follows.current) element.scrollTop = element.scrollHeight
      setAway(!follows.current && left(element) > NEAR)
    })
    watcher.observe(inner.current!)
    return () => watcher.disconnect()
  }, [])

  return (
    <div class="thread">
      <div
        class="scroll"
        ref={box}
        tabIndex={-1}
        onScroll={() => {
          // Only who scrolls up leaves the end: what is written meanwhile may have made it distant by itself.
          const up = box.current!.scrollTop < top.current
          top.current = box.current!.scrollTop
          if (left(box.current!) <= NEAR) follows.current = true
          else if (up) follows.current = false
          setAway(!follows.current)
        }}
      >
        <div class="measure" ref={inner}>
          {turns.length > 0 && <h1 class="hidden">{current.value.title.value}</h1>}
          {turns.length === 0 ? <Welcome greeting={greeting} /> : turns.map((turn, order) => <OneTurn key={turn.id} turns={turns} order={order} turn={turn} />)}
        </div>
      </div>
      {away && turns.length > 0 && (
        <button
          type="button"
          class="to-end"
          aria-label="To the end of the conversation"
          onClick={() => box.current!.scrollTo({ top: box.current!.scrollHeight, behavior: 'smooth' })}
        >
          <Lower size={18} />
        </button>
      )}
      <p class="hidden" role="status">
        {told.value}
      </p>
    </div>
  )
}

function OneTurn({ turns, turn, order }: { turns: Turn[]; turn: Turn; order: number }) {
  const n = turns.slice(0, order + 1).filter((each) => each.role === turn.role).length
  if (!(turn instanceof Answer)) return <Question asked={turn} n={n} />
  const before = turns[order - 1]
  const question = before && !(before instanceof Answer) ? before.text : ''
  return <Reply answer={turn} question={question} n={n} last={order === turns.length - 1} />
}

function Welcome({ greeting }: { greeting: string }) {
  if (models.value.length === 0) {
    return (
      <section class="welcome">
        <h1>No model to ask</h1>
        <p>This key may use no chat model here. Whoever runs this gateway can add one to its configuration, or to your key.</p>
      </section>
    )
  }
  return (
    <section class="welcome">
      <h1>{greeting}</h1>
      <p>{description() || `You are asking ${chosen.value}.`}</p>
      {settings.suggestions.length > 0 && (
        <ul>
          {settings.suggestions.map((text) => (
            <li key={text}>
              <button type="button" class="suggestion" onClick={() => void say(text)}>
                {text}
              </button>
            </li>
          ))}
        </ul>
      )}
    </section>
  )
}

function left(element: HTMLElement): number {
  return element.scrollHeight - element.scrollTop - element.clientHeight
}
