import { batch, computed, signal, type Signal } from '@preact/signals'
import { Refused } from './api'
import { forget, keep, kept } from './keeping'
import { chosen } from './models'
import { ask, type Source, type Usage } from './stream'

export interface Fault {
  message: string
  status: number
  code: string | null
  /** When another try makes sense, in milliseconds since 1970; null where that is not known. */
  retryAt: number | null
}

/** One answer, as it grows. */
export class Answer {
  readonly role = 'assistant'
  readonly id: string
  readonly text: Signal<string>
  readonly thought = signal('')
  readonly state: Signal<'waiting' | 'streaming' | 'done' | 'stopped' | 'failed'>
  readonly sources: Signal<Source[]>
  readonly fault: Signal<Fault | null>
  readonly rating: Signal<number | null>
  model = ''
  callId: string | null = null
  target: string | null = null
  cache: string | null = null
  degraded: string | null = null
  readonly usage: Signal<Usage | null>
  readonly cost: Signal<number | null>
  readonly seconds: Signal<number | null>
  readonly cut: Signal<boolean>

  constructor(from: Partial<KeptAnswer> = {}) {
    this.id = from.id ?? crypto.randomUUID()
    this.text = signal(from.text ?? '')
    this.state = signal(from.state ?? 'waiting')
    this.sources = signal(from.sources ?? [])
    this.fault = signal(from.fault ?? null)
    this.rating = signal(from.rating ?? null)
    this.usage = signal(from.usage ?? null)
    this.cost = signal(from.cost ?? null)
    this.seconds = signal(from.seconds ?? null)
    this.cut = signal(from.cut ?? false)
    this.model = from.model ?? ''
    this.callId = from.callId ?? null
    this.target = from.target ?? null
    this.cache = from.cache ?? null
    this.degraded = from.degraded ?? null
  }

  get busy(): boolean {
    return this.state.value === 'waiting' || this.state.value === 'streaming'
  }

  toKeep(): KeptAnswer {
    const { id, model, callId, target, cache, degraded } = this
    const state = this.state.peek()
    return {
      role: 'assistant', id, model, callId, target, cache, degraded,
      state: state === 'done' || state === 'failed' ? state : 'stopped',
      text: this.text.peek(), sources: this.sources.peek(), fault: this.fault.peek(), rating: this.rating.peek(),
      usage: this.usage.peek(), cost: this.cost.peek(), seconds: this.seconds.peek(), cut: this.cut.peek(),
    }
  }
}

export interface KeptAnswer {
  role: 'assistant'
  id: string
  text: string
  state: 'done' | 'stopped' | 'failed'
  sources: Source[]
  fault: Fault | null
  rating: number | null
  model: string
  callId: string | null
  target: string | null
  cache: string | null
  degraded: string | null
  usage: Usage | null
  cost: number | null
  seconds: number | null
  cut: boolean
}

export interface Asked {
  readonly role: 'user'
  readonly id: string
  readonly text: string
}

export type Turn = Asked | Answer

export interface KeptConversation {
  id: string
  title: string
  changed: number
  stores: string[]
  turns: (Asked | KeptAnswer)[]
}

export class Conversation {
  readonly id: string
  readonly title: Signal<string>
  readonly turns: Signal<Turn[]>
  /** The vector stores that its questions are looked up in. */
  readonly stores: Signal<string[]>
  changed: number

  constructor(from: Partial<KeptConversation> = {}) {
    this.id = from.id ?? crypto.randomUUID()
    this.title = signal(from.title ?? '')
    this.stores = signal(from.stores ?? [])
    this.changed = from.changed ?? Date.now()
    this.turns = signal((from.turns ?? []).map((turn) => (turn.role === 'assistant' ? new Answer(turn) : turn)))
  }

  toKeep(): KeptConversation {
    const turns = this.turns.peek().map((turn) => (turn instanceof Answer ? turn.toKeep() : turn))
    return { id: this.id, title: this.title.peek(), changed: this.changed, stores: this.stores.peek(), turns }
  }
}

export const conversations = signal<Conversation[]>([])
export const current = signal(new Conversation())
export const running = signal<Answer | null>(null)
/** What is read out to who can't see the page. */
export const told = signal('')
export const listed = computed(() => conversations.value.filter((each) => each.turns.value.length > 0))

let stopping: AbortController | null = null

export async function restore(): Promise<void> {
  const found = await kept<KeptConversation>()
  found.sort((a, b) => b.changed - a.changed)
  conversations.value = [...conversations.peek(), ...found.map((each) => new Conversation(each))]
}

export function begin(): void {
  stop()
  current.value = new Conversation()
}

export function open(conversation: Conversation): void {
  if (conversation !== current.peek()) stop()
  current.value = conversation
}

export function drop(conversation: Conversation): void {
  if (conversation === current.peek()) begin()
  conversations.value = conversations.peek().filter((each) => each !== conversation)
  void forget(conversation.id)
}

export function dropAll(): void {
  stop()
  for (const each of conversations.peek()) void forget(each.id)
  conversations.value = []
  current.value = new Conversation()
}

export function stop(): void {
  stopping?.abort()
}

/** Ask something; with `before`, in place of that earlier question and all that followed it. */
export async function say(text: string, before?: Asked): Promise<void> {
  const conversation = current.peek()
  const turns = conversation.turns.peek()
  const earlier = before ? turns.slice(0, turns.indexOf(before)) : turns
  const asked: Asked = { role: 'user', id: crypto.randomUUID(), text }
  if (!conversation.title.peek()) conversation.title.value = text.trim().split('\n')[0]!.slice(0, 80)
  if (!conversations.peek().includes(conversation)) conversations.value = [conversation, ...conversations.peek()]
  await answer(conversation, [...earlier, asked])
}

/** The same question again, in place of this answer. */
export async function retry(old: Answer): Promise<void> {
  const conversation = current.peek()
  const turns = conversation.turns.peek()
  await answer(conversation, turns.slice(0, turns.indexOf(old)))
}

async function answer(conversation: Conversation, before: Turn[]): Promise<void> {
  stop()
  const made = new Answer()
  const abort = new AbortController()
  const started = performance.now()
  made.model = chosen.peek()
  batch(() => {
    conversation.turns.value = [...before, made]
    running.value = made
    told.value = 'Waiting for the answer.'
  })
  stopping = abort
  const question = { model: made.model, messages: spoken(before), stores: conversation.stores.peek() }
  try {
    for await (const piece of paced(ask(question, abort.signal), made)) {
      if (piece.kind === 'began') {
        const { callId, target, cache, degraded } = piece
        Object.assign(made, { callId, target, cache, degraded })
      } else if (piece.kind === 'sources') made.sources.value = piece.sources
      else if (piece.kind === 'usage') made.usage.value = piece.usage
      else if (piece.kind === 'finished') made.cut.value = piece.reason === 'content_filter'
    }
    made.state.value = 'done'
    told.value = finished(made)
  } catch (failure) {
    if (abort.signal.aborted) {
      made.state.value = 'stopped'
      told.value = 'Stopped.'
    } else {
      made.fault.value = faultOf(failure, made)
      made.state.value = 'failed'
      told.value = ''
    }
  } finally {
    made.seconds.value = (performance.now() - started) / 1000
    if (running.peek() === made) running.value = null
    if (stopping === abort) stopping = null
    conversation.changed = Date.now()
    void keep(conversation.toKeep())
  }
}

/** The pieces, with text put into the answer once a frame: a fast model sends more than a screen can show. */
async function* paced(pieces: ReturnType<typeof ask>, made: Answer) {
  let text = ''
  let thought = ''
  let frame = 0
  const show = () => {
    frame = 0
    batch(() => {
      made.text.value += text
      made.thought.value += thought
      if (text || thought) made.state.value = 'streaming'
    })
    text = thought = ''
  }
  try {
    for await (const piece of pieces) {
      if (piece.kind === 'text') text += piece.text
      else if (piece.kind === 'thought') thought += piece.text
      else yield piece
      // A tab that nobody looks at has no frames.
      if (!frame && (text || thought)) frame = document.hidden ? (setTimeout(show, 200), 1) : requestAnimationFrame(show)
    }
  } finally {
    show()
  }
}

/** The conversation so far, without questions that had no answer: what a guardrail stopped would be stopped again. */
function spoken(turns: Turn[]): { role: string; content: string }[] {
  return turns
    .filter((turn, order) => {
      if (turn instanceof Answer) return turn.text.peek() !== ''
      const next = turns[order + 1]
      return !(next instanceof Answer) || next.text.peek() !== ''
    })
    .map((turn) => ({ role: turn.role, content: turn instanceof Answer ? turn.text.peek() : turn.text }))
}

function finished(made: Answer): string {
  const count = made.sources.peek().length
  return `The answer is complete${count ? `, from ${count} ${count === 1 ? 'source' : 'sources'}` : ''}.`
}

function faultOf(failure: unknown, made: Answer): Fault {
  if (!(failure instanceof Refused)) {
    return { message: 'This page could not read the answer.', status: 0, code: 'unreadable', retryAt: null }
  }
  made.callId ??= failure.callId
  const { message, status, code, retryAfter } = failure
  return { message, status, code, retryAt: retryAfter === null ? null : Date.now() + retryAfter * 1000 }
}
