import { useEffect, useRef, useState } from 'preact/hooks'
import { current } from '../conversations'
import { add, create, list, stores, uploads, type Upload } from '../knowledge'
import { Dialog } from './Dialog'
import { many } from './words'

/** Documents of one's own: in collections (vector stores), of which some are looked up in for this conversation. */
export function KnowledgeDialog() {
  const [fault, setFault] = useState('')
  const [into, setInto] = useState('')
  const used = current.value.stores
  const failed = (failure: Error) => setFault(failure.message)
  useEffect(() => {
    list().catch(failed)
  }, [])

  function toggle(id: string, on: boolean) {
    used.value = on ? [...used.value, id] : used.value.filter((each) => each !== id)
  }

  async function take(files: File[]) {
    if (files.length === 0) return
    setFault('')
    try {
      const id = into || stores.value?.[0]?.id || (await create('My documents')).id
      setInto(id)
      if (!used.peek().includes(id)) toggle(id, true)
      await add(id, files)
    } catch (failure) {
      failed(failure as Error)
    }
  }

  const target = stores.value?.find((store) => store.id === (into || stores.value?.[0]?.id))
  return (
    <Dialog title="Documents">
      <p class="lead">Answers in this conversation also look into the collections that you choose here.</p>
      {stores.value === null && !fault && (
        <div class="skeleton" role="status">
          <span class="hidden">Loading collections</span>
          <i />
          <i />
        </div>
      )}
      {stores.value?.length === 0 && <p class="empty">You have no collection yet. Add a file and one is made.</p>}
      <ul class="stores">
        {stores.value?.map((store) => (
          <li key={store.id}>
            <label class="check">
              <input type="checkbox" checked={used.value.includes(store.id)} onChange={(event) => toggle(store.id, event.currentTarget.checked)} />
              <span>
                {store.name || 'Unnamed collection'}
                <small>
                  {many(store.file_counts.completed, 'file')}
                  {store.file_counts.in_progress > 0 && `, ${store.file_counts.in_progress} being indexed`}
                  {store.file_counts.failed > 0 && `, ${store.file_counts.failed} failed`}
                </small>
              </span>
            </label>
          </li>
        ))}
      </ul>
      <NewStore made={(id) => { setInto(id); toggle(id, true) }} failed={failed} />
      {stores.value && stores.value.length > 1 && (
        <label class="into">
          Add files to
          <select value={target?.id} onChange={(event) => setInto(event.currentTarget.value)}>
            {stores.value.map((store) => (
              <option key={store.id} value={store.id}>
                {store.name || store.id}
              </option>
            ))}
          </select>
        </label>
      )}
      <Drop take={(files) => void take(files)} />
      {fault && (
        <p class="field-fault" role="alert">
          {fault}
        </p>
      )}
      <ul class="uploads" aria-label="Uploads">
        {uploads.value.map((upload, order) => (
          <Progress key={uploads.value.length - order} upload={upload} />
        ))}
      </ul>
    </Dialog>
  )
}

function NewStore({ made, failed }: { made: (id: string) => void; failed: (failure: Error) => void }) {
  const [name, setName] = useState('')
  return (
    <form
      class="new-store"
      onSubmit={(event) => {
        event.preventDefault()
        if (!name.trim()) return
        create(name.trim()).then((store) => {
          setName('')
          made(store.id)
        }, failed)
      }}
    >
      <label class="hidden" for="store-name">
        Name of a new collection
      </label>
      <input id="store-name" value={name} maxLength={256} placeholder="New collection" onInput={(event) => setName(event.currentTarget.value)} />
      <button type="submit" class="button quiet" disabled={!name.trim()}>
        Create
      </button>
    </form>
  )
}

function Drop({ take }: { take: (files: File[]) => void }) {
  const [over, setOver] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  return (
    <div
      class={over ? 'drop over' : 'drop'}
      onDragOver={(event) => {
        event.preventDefault()
        setOver(true)
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault()
        setOver(false)
        take([...(event.dataTransfer?.files ?? [])])
      }}
    >
      <button type="button" class="button" onClick={() => field.current!.click()}>
        Choose files
      </button>
      <span>or drop them here: PDF, Word, PowerPoint, Excel, Markdown, HTML, text</span>
      <input
        ref={field}
        type="file"
        multiple
        hidden
        aria-label="Files to add"
        onChange={(event) => {
          const files = [...(event.currentTarget.files ?? [])]
          event.currentTarget.value = ''
          take(files)
        }}
      />
    </div>
  )
}

const STEPS = { uploading: 'Uploading', indexing: 'Being indexed', ready: 'Ready', failed: 'Failed' }

function Progress({ upload }: { upload: Upload }) {
  const step = upload.step.value
  return (
    <li class={`upload ${step}`}>
      <span class="name">{upload.name}</span>
      <span class="soft" role="status">
        {step === 'uploading' ? `${Math.round(upload.share.value * 100)} %` : STEPS[step]}
      </span>
      {(step === 'uploading' || step === 'indexing') && (
        <progress aria-label={`${STEPS[step]}: ${upload.name}`} max={1} value={step === 'uploading' ? upload.share.value : undefined} />
      )}
      {step === 'failed' && <p class="field-fault">{upload.error.value}</p>}
    </li>
  )
}
