import { signal } from '@preact/signals'
import { settings } from './settings'
import { read, write } from './storage'

const NAME = 'rag-gateway'

/** Whether conversations are kept on this device; only where the visitor asked for it. */
export const keeping = signal(settings.keep && read('device', 'keep') === 'yes')

interface Kept {
  id: string
}

export async function keep(conversation: Kept): Promise<void> {
  if (keeping.peek()) await within('readwrite', (store) => store.put(conversation)).catch(() => {})
}

export async function kept<T extends Kept>(): Promise<T[]> {
  if (!keeping.peek()) return []
  return (await within('readonly', (store) => store.getAll()).catch(() => [])) as T[]
}

export async function forget(id: string): Promise<void> {
  if (keeping.peek()) await within('readwrite', (store) => store.delete(id)).catch(() => {})
}

/** With `false`, everything that was kept goes. */
export async function setKeeping(wanted: boolean, now: Kept[]): Promise<void> {
  keeping.value = wanted
  write('device', 'keep', wanted ? 'yes' : null)
  if (wanted) {
    for (const each of now) await keep(each)
  } else {
    await new Promise((resolve) => {
      const request = indexedDB.deleteDatabase(NAME)
      request.onsuccess = request.onerror = request.onblocked = resolve
    })
  }
}

async function within<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await done(
    Object.assign(indexedDB.open(NAME, 1), {
      onupgradeneeded(this: IDBOpenDBRequest) {
        this.result.createObjectStore('conversations', { keyPath: 'id' })
      },
    }),
  )
  try {
    return await done(work(database.transaction('conversations', mode).objectStore('conversations')))
  } finally {
    database.close()
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}
