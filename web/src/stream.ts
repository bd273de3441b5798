import { Refused, refusedBy, send } from './api'

export interface Source {
  document_id: string
  version: string
  section_id: string
  collection: string
  score: number
  title: string
  url: string
  quote: string
}

export interface Usage {
  prompt_tokens: number
  completion_tokens: number
}

/** One step of an answer. */
export type Piece =
  | { kind: 'began'; callId: string | null; target: string | null; cache: string | null; degraded: string | null }
  | { kind: 'text'; text: string }
  | { kind: 'thought'; text: string }
  | { kind: 'sources'; sources: Source[] }
  | { kind: 'usage'; usage: Usage }
  | { kind: 'finished'; reason: string }

interface Chunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null; refusal?: string | null }; finish_reason?: string | null }[]
  usage?: Usage | null
  rag?: { sources?: Source[] }
  error?: { message?: string; code?: string | null }
}

export interface Question {
  model: string
  messages: { role: string; content: string }[]
  stores: string[]
}

/** The pieces of a streamed chat completion. Raises Refused, also where the stream breaks off; AbortError. */
export async function* ask(question: Question, signal: AbortSignal): AsyncGenerator<Piece> {
  const { model, messages, stores } = question
  const tools = stores.length > 0 ? { tools: [{ type: 'file_search', vector_store_ids: stores }] } : {}
  const answer = await send('v1/chat/completions', {
    method: 'POST',
    json: { model, messages, stream: true, stream_options: { include_usage: true }, ...tools },
    signal,
  })
  const said = (name: string) => answer.headers.get(name)
  yield {
    kind: 'began',
    callId: said('x-gateway-call-id'),
    target: said('x-gateway-target'),
    cache: said('x-gateway-cache'),
    degraded: said('x-gateway-degraded'),
  }
  let whole = false
  for await (const data of events(answer)) {
    if (data === '[DONE]') {
      whole = true
      break
    }
    const chunk = JSON.parse(data) as Chunk
    if (chunk.error) throw refusedBy(chunk as never, 200, answer.headers)
    yield* pieces(chunk)
  }
  if (!whole) throw new Refused('The answer broke off before its end.', 0, 'broken_off', null, said('x-gateway-call-id'))
}

function* pieces(chunk: Chunk): Generator<Piece> {
  const choice = chunk.choices?.[0]
  const delta = choice?.delta
  if (delta?.reasoning_content) yield { kind: 'thought', text: delta.reasoning_content }
  const text = (delta?.content ?? '') + (delta?.refusal ?? '')
  if (text) yield { kind: 'text', text }
  if (chunk.rag?.sources) yield { kind: 'sources', sources: chunk.rag.sources }
  if (chunk.usage) yield { kind: 'usage', usage: chunk.usage }
  if (choice?.finish_reason) yield { kind: 'finished', reason: choice.finish_reason }
}

/** The data of each server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* events(answer: Response): AsyncGenerator<string> {
  const reader = answer.body!.getReader()
  const decoder = new TextDecoder()
  let kept = ''
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((failure: unknown) => {
        if (failure instanceof DOMException && failure.name === 'AbortError') throw failure
        return { done: true as const, value: undefined }
      })
      kept += decoder.decode(value, { stream: !done })
      const parts = kept.split(/\r?\n\r?\n/)
      kept = parts.pop()!
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:'))
        if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join('\n')
      }
      if (done) return
    }
  } finally {
    void reader.cancel().catch(() => {})
  }
}
