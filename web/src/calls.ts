import { get } from './api'

/** What `GET /v1/calls/{id}` tells of a call, as far as this page shows it. Every part may be missing. */
export interface Call {
  id: string
  model?: string
  target?: string | null
  served_model?: string | null
  template?: { reference?: string; trimmed?: unknown[] } | null
  features?: Record<string, unknown> | null
  passages?: { n: number; title?: string; heading?: string[]; url?: string; collection?: string; score?: number; text?: string; document_id?: string }[]
  guardrails?: { stage?: string; check?: string; action?: string; kinds?: string[]; found?: unknown }[]
  cache?: string
  searched?: { collection?: string | null; queries?: string[]; rewritten?: boolean | string | null } | null
  dropped?: { why?: string }[]
  quality?: { measure?: string; score?: number | null }[]
  attempts?: { target: string; outcome: string; status: number | null; ms: number }[]
  cost?: number | null
  usage?: { prompt_tokens: number; completion_tokens: number; cached_tokens?: number; estimated?: boolean } | null
  stages?: { name: string; start_ms: number; ms: number }[]
  timings?: { first_chunk_ms: number | null; total_ms: number | null }
  degraded?: string[]
  outcome?: string
  config_revision?: string
  trace_id?: string
}

const known = new Map<string, Promise<Call>>()

/** For who signs out. */
export function dropCalls(): void {
  known.clear()
}

/** A record that was told once does not change. Raises Refused. */
export function explain(id: string): Promise<Call> {
  const before = known.get(id)
  if (before) return before
  const asked = get<Call>(`v1/calls/${encodeURIComponent(id)}`)
  known.set(id, asked)
  asked.catch(() => known.delete(id))
  return asked
}
