import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { get, type Refused } from '../api'
import { key, remembered, useKey } from '../key'
import { begin, models, standing } from '../models'
import { settings } from '../settings'

/** Asked where the gateway wants a key, and for another one. */
export function SignIn() {
  const field = useRef<HTMLInputElement>(null)
  const [keeps, setKeeps] = useState(remembered.peek())
  const [busy, setBusy] = useState(false)
  const [fault, setFault] = useState(key.peek() ? 'That key is not accepted any more.' : '')
  const changing = models.value.length > 0
  useLayoutEffect(() => {
    if (changing) setFault('')
    field.current!.focus()
  }, [])

  async function enter(event: Event) {
    event.preventDefault()
    const typed = field.current!.value.trim()
    if (!typed) return setFault('Paste your key first.')
    const before = key.peek()
    setBusy(true)
    setFault('')
    key.value = typed
    try {
      await get('v1/models')
      useKey(typed, keeps)
      await begin()
    } catch (failure) {
      key.value = before
      setFault((failure as Refused).message)
      field.current?.select()
    } finally {
      setBusy(false)
    }
  }

  return (
    <main class="sign-in">
      <form onSubmit={(event) => void enter(event)}>
        <h1>{settings.title}</h1>
        <p id="why-key">This gateway asks for a key. Whoever runs it can give you one.</p>
        <label for="key">Your key</label>
        <input id="key" ref={field} type="password" autocomplete="current-password" spellcheck={false} aria-describedby="why-key key-fault" aria-invalid={fault !== ''} placeholder="sk-gw-…" />
        <p class="field-fault" id="key-fault" role="alert">
          {fault}
        </p>
        {settings.keep && (
          <label class="check">
            <input type="checkbox" checked={keeps} onChange={(event) => setKeeps(event.currentTarget.checked)} />
            <span>
              Remember it on this device
              <small>Otherwise it is forgotten when you close this tab.</small>
            </span>
          </label>
        )}
        <div class="row">
          <button type="submit" class="button wide" disabled={busy}>
            {busy ? 'One moment…' : 'Continue'}
          </button>
          {changing && (
            <button type="button" class="button quiet" onClick={() => (standing.value = 'ready')}>
              Cancel
            </button>
          )}
        </div>
      </form>
    </main>
  )
}
