import { effect, signal } from '@preact/signals'
import { read, write } from './storage'

export type Theme = 'system' | 'light' | 'dark'

const written = read('device', 'theme')

export const theme = signal<Theme>(written === 'light' || written === 'dark' ? written : 'system')

effect(() => {
  if (theme.value === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme.value
})

export function setTheme(wanted: Theme): void {
  theme.value = wanted
  write('device', 'theme', wanted === 'system' ? null : wanted)
}
