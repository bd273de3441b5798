import { choose, chosen, models } from '../models'
import { begin } from '../conversations'
import { sidebar } from '../panel'
import { Chevron, Menu, Plus } from './icons'

export function TopBar() {
  return (
    <header class="top">
      <button type="button" class="act narrow-only" aria-label="Conversations" aria-expanded={sidebar.value} onClick={() => (sidebar.value = true)}>
        <Menu />
      </button>
      <label class="hidden" for="model">
        Model
      </label>
      {models.value.length > 0 && (
        <span class="picker">
          <select id="model" value={chosen.value} onChange={(event) => choose(event.currentTarget.value)}>
            {models.value.map((model) => (
              <option key={model.id} value={model.id}>
                {model.id}
              </option>
            ))}
          </select>
          <Chevron size={16} />
        </span>
      )}
      <span class="grow" />
      <button type="button" class="act narrow-only" aria-label="New conversation" onClick={begin}>
        <Plus />
      </button>
    </header>
  )
}
