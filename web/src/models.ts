import { signal } from '@preact/signals'
import { get, type Refused } from './api'
import { inWidget, settings } from './settings'
import { read, write } from './storage'

export interface Model {
  id: string
  description?: string
  endpoints?: string[]
}

/** Where the page stands: whether it may ask, and what. */
export const standing = signal<'starting' | 'ready' | 'needs-key' | 'failed'>('starting')
export const models = signal<Model[]>([])
export const chosen = signal('')
export const fault = signal<Refused | null>(null)
/** Whether this gateway has documents of its visitors' own. */
export const hasStores = signal(false)

export function choose(id: string): void {
  chosen.value = id
  write('tab', 'model', id)
}

export function description(): string {
  return models.value.find((model) => model.id === chosen.value)?.description ?? ''
}

/** Asks the gateway which models this key may use. */
export async function begin(wanted: string | null = settings.model): Promise<void> {
  standing.value = 'starting'
  try {
    const { data } = await get<{ data: Model[] }>('v1/models')
    models.value = data.filter((model) => model.endpoints?.includes('chat.completions') ?? true)
    const before = chosen.value || read('tab', 'model')
    const names = models.value.map((model) => model.id)
    chosen.value = [before, wanted, names[0]].find((name) => name && names.includes(name)) ?? ''
    standing.value = 'ready'
    if (!inWidget) {
      hasStores.value = await get('v1/vector_stores?limit=1').then(
        () => true,
        () => false,
      )
    }
  } catch (failure) {
    fault.value = failure as Refused
    standing.value = fault.value.status === 401 ? 'needs-key' : 'failed'
  }
}
