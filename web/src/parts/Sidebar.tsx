import { useLayoutEffect, useRef } from 'preact/hooks'
import { begin, current, drop, listed, open } from '../conversations'
import { keeping } from '../keeping'
import { dialog, sidebar } from '../panel'
import { settings } from '../settings'
import { Bin, Cross, Gear, Plus } from './icons'

export function Sidebar() {
  const first = useRef<HTMLButtonElement>(null)
  const opened = sidebar.value
  useLayoutEffect(() => {
    if (opened) first.current?.focus()
  }, [opened])
  function away() {
    sidebar.value = false
  }
  return (
    <nav class={opened ? 'sidebar opened' : 'sidebar'} aria-label="Conversations" onKeyDown={(event) => event.key === 'Escape' && away()}>
      <div class="brand">
        <span>{settings.title}</span>
        <button type="button" class="act narrow-only" onClick={away} aria-label="Close the list">
          <Cross />
        </button>
      </div>
      <button
        type="button"
        class="new"
        ref={first}
        onClick={() => {
          begin()
          away()
        }}
      >
        <Plus /> New conversation
      </button>
      <ul class="scroll">
        {listed.value.map((conversation) => (
          <li key={conversation.id} class={conversation === current.value ? 'here' : ''}>
            <button
              type="button"
              class="title"
              aria-current={conversation === current.value ? 'true' : undefined}
              onClick={() => {
                open(conversation)
                away()
              }}
            >
              {conversation.title.value}
            </button>
            <button type="button" class="act" aria-label={`Delete “${conversation.title.value}”`} title="Delete" onClick={() => drop(conversation)}>
              <Bin size={16} />
            </button>
          </li>
        ))}
      </ul>
      <footer>
        <p>{keeping.value ? 'Kept on this device.' : 'Gone when you close this tab.'}</p>
        <button type="button" class="act worded" onClick={() => (dialog.value = 'settings')}>
          <Gear /> Settings
        </button>
      </footer>
    </nav>
  )
}
