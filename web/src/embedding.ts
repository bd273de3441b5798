import { signal } from '@preact/signals'
import { useKey } from './key'
import { begin } from './models'
import { setTheme } from './theme'

/** What the site around the widget says of it, in one message; the key never stands in an address. */
interface Told {
  key?: string
  model?: string
  title?: string
  greeting?: string
  theme?: 'light' | 'dark'
}

export const told = signal<Told>({})

/**
 * The frame's side of widget.ts. Only the window around us is heard, and whose page that may be the browser has seen to
 * before: `frame-ancestors` names the sites. What we tell it holds nothing of the conversation.
 */
export function listen(): void {
  addEventListener('message', (event: MessageEvent<{ ragGateway?: string } & Told>) => {
    if (event.source !== window.parent || event.data?.ragGateway !== 'settings') return
    const { key, model, title, greeting, theme } = event.data
    told.value = { key, model, title, greeting, theme }
    if (theme === 'light' || theme === 'dark') setTheme(theme)
    useKey(typeof key === 'string' ? key : '', false)
    void begin(model ?? null)
  })
  sayToSite('ready')
}

export function sayToSite(what: 'ready' | 'close'): void {
  window.parent.postMessage({ ragGateway: what }, '*')
}
