import { signal, type Signal } from '@preact/signals'
import { get, post, upload, type Refused } from './api'

export interface Store {
  id: string
  name: string | null
  status: string
  file_counts: { in_progress: number; completed: number; failed: number; total: number }
}

interface StoreFile {
  status: 'in_progress' | 'completed' | 'failed' | 'cancelled'
  last_error: { message: string } | null
}

/** One file on its way into a vector store. */
export interface Upload {
  name: string
  share: Signal<number>
  step: Signal<'uploading' | 'indexing' | 'ready' | 'failed'>
  error: Signal<string>
}

export const stores = signal<Store[] | null>(null)
export const uploads = signal<Upload[]>([])

/** For who signs out: names of files are nothing for whoever comes next. */
export function dropKnowledge(): void {
  stores.value = null
  uploads.value = []
}

export async function list(): Promise<void> {
  stores.value = (await get<{ data: Store[] }>('v1/vector_stores?limit=100')).data
}

export async function create(name: string): Promise<Store> {
  const made = await post<Store>('v1/vector_stores', { name })
  await list()
  return made
}

/** Two at a time: uploaded, then watched until they can be found. */
export async function add(store: string, files: File[]): Promise<void> {
  const waiting = files.map((file) => ({ file, entry: entry(file.name) }))
  uploads.value = [...waiting.map(({ entry }) => entry), ...uploads.value]
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await load(store, next.file, next.entry)
  }
  await Promise.all([work(), work()])
  await list().catch(() => {})
}

async function load(store: string, file: File, entry: Upload): Promise<void> {
  try {
    const form = new FormData()
    form.append('purpose', 'assistants')
    form.append('file', file, file.name)
    const { id } = await upload<{ id: string }>('v1/files', form, (share) => (entry.share.value = share))
    entry.share.value = 1
    entry.step.value = 'indexing'
    await post(`v1/vector_stores/${store}/files`, { file_id: id })
    for (let pause = 250; ; pause = Math.min(pause * 1.5, 3000)) {
      const { status, last_error } = await get<StoreFile>(`v1/vector_stores/${store}/files/${id}`)
      if (status === 'completed') break
      if (status !== 'in_progress') throw new Error(last_error?.message ?? 'It could not be indexed.')
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
    entry.step.value = 'ready'
  } catch (failure) {
    entry.error.value = (failure as Refused | Error).message
    entry.step.value = 'failed'
  }
}

function entry(name: string): Upload {
  return { name, share: signal(0), step: signal('uploading'), error: signal('') }
}

export async function textOf(store: string, file: string): Promise<string> {
  const { data } = await get<{ data: { text: string }[] }>(`v1/vector_stores/${store}/files/${file}/content`)
  return data.map((part) => part.text).join('\n')
}
