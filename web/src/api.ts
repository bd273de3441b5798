import { key } from './key'

/** The gateway's API, wherever a proxy has put it: next to this page. */
const root = new URL('.', document.baseURI)

export function address(path: string): string {
  return new URL(path, root).href
}

/** An answer that is none, in words that the gateway chose; `status` 0 where it could not be asked at all. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null,
    /** In seconds. */
    readonly retryAfter: number | null = null,
    readonly callId: string | null = null,
  ) {
    super(message)
  }
}

interface Wire {
  error?: { message?: string; code?: string | null; type?: string }
}

export function refusedBy(body: Wire | null, status: number, headers?: Headers): Refused {
  const error = body?.error
  const after = Number.parseInt(headers?.get('retry-after') ?? '', 10)
  return new Refused(
    error?.message ?? `The gateway answered with status ${status}.`,
    status,
    error?.code ?? error?.type ?? null,
    Number.isNaN(after) ? null : after,
    headers?.get('x-gateway-call-id') ?? null,
  )
}

/** Raises Refused for whatever is no success, and for a network that fails; AbortError where `signal` says so. */
export async function send(path: string, init: RequestInit & { json?: unknown } = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  if (key.value) headers.set('authorization', `Bearer ${key.value}`)
  let body = init.body
  if (init.json !== undefined) {
    headers.set('content-type', 'application/json')
    body = JSON.stringify(init.json)
  }
  let answer: Response
  try {
    answer = await fetch(address(path), { ...init, body, headers, credentials: 'omit', cache: 'no-store', redirect: 'error' })
  } catch (failure) {
    if (failure instanceof DOMException && failure.name === 'AbortError') throw failure
    throw new Refused('The gateway can’t be reached. Is it running, and are you online?', 0, 'unreachable')
  }
  if (!answer.ok) throw refusedBy((await answer.json().catch(() => null)) as Wire | null, answer.status, answer.headers)
  return answer
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await send(path, { signal })).json()) as T
}

export async function post<T>(path: string, json: unknown): Promise<T> {
  return (await (await send(path, { method: 'POST', json })).json()) as T
}

/** One file as multipart, with its progress from 0 to 1, which `fetch` does not tell. Raises Refused. */
export function upload<T>(path: string, form: FormData, progress: (share: number) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('POST', address(path))
    if (key.value) request.setRequestHeader('authorization', `Bearer ${key.value}`)
    request.responseType = 'json'
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total)
    request.onerror = () => reject(new Refused('The upload was cut off.', 0, 'unreachable'))
    request.onload = () => {
      if (request.status < 400) return resolve(request.response as T)
      reject(refusedBy(request.response as Wire | null, request.status))
    }
    request.send(form)
  })
}
