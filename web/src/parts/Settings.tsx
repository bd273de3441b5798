import { dropCalls } from '../calls'
import { conversations, dropAll, listed } from '../conversations'
import { keeping, setKeeping } from '../keeping'
import { key, remembered, useKey } from '../key'
import { dropKnowledge } from '../knowledge'
import { begin, standing } from '../models'
import { dialog } from '../panel'
import { settings } from '../settings'
import { setTheme, theme, type Theme } from '../theme'
import { Dialog } from './Dialog'

const THEMES: [Theme, string][] = [
  ['system', 'As the device'],
  ['light', 'Light'],
  ['dark', 'Dark'],
]

export function SettingsDialog() {
  return (
    <Dialog title="Settings">
      <fieldset class="setting">
        <legend>Appearance</legend>
        <div class="segments">
          {THEMES.map(([name, shown]) => (
            <label key={name}>
              <input type="radio" name="theme" checked={theme.value === name} onChange={() => setTheme(name)} />
              <span>{shown}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <section class="setting">
        <h3>Key</h3>
        <p>
          {key.value
            ? remembered.value
              ? 'Your key is remembered on this device.'
              : 'Your key is forgotten when you close this tab.'
            : 'You are using this gateway without a key.'}
        </p>
        <div class="row">
          <button
            type="button"
            class="button quiet"
            onClick={() => {
              dialog.value = null
              standing.value = 'needs-key'
            }}
          >
            {key.value ? 'Use another key' : 'Enter a key'}
          </button>
          {key.value && (
            <button
              type="button"
              class="button quiet"
              onClick={() => {
                useKey('', false)
                dropAll()
                dropKnowledge()
                dropCalls()
                dialog.value = null
                void begin()
              }}
            >
              Sign out
            </button>
          )}
        </div>
      </section>
      <section class="setting">
        <h3>Conversations</h3>
        {settings.keep && (
          <label class="check">
            <input
              type="checkbox"
              checked={keeping.value}
              onChange={(event) => void setKeeping(event.currentTarget.checked, listed.peek().map((each) => each.toKeep()))}
            />
            <span>
              Keep conversations on this device
              <small>In this browser only, unencrypted. Turning it off erases them here.</small>
            </span>
          </label>
        )}
        <button type="button" class="button quiet danger" disabled={conversations.value.length === 0} onClick={dropAll}>
          Delete all conversations
        </button>
      </section>
    </Dialog>
  )
}
