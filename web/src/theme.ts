import { effect, signal } from '@preact/signals'
import { inWidget } from './settings'

export type Theme = 'system' | 'light' | 'dark'

const NAME = 'rag-gateway.theme'
const written = inWidget ? null : localStorage.getItem(NAME)

export const theme = signal<Theme>(written === 'light' || written === 'dark' ? written : 'system')

effect(() => {
  if (theme.value === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme.value
})

export function setTheme(wanted: Theme): void {
  theme.value = wanted
  if (inWidget) return
  if (wanted === 'system') localStorage.removeItem(NAME)
  else localStorage.setItem(NAME, wanted)
}
