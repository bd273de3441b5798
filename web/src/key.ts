import { signal } from '@preact/signals'
import { inWidget, settings } from './settings'

const NAME = 'rag-gateway.key'

/**
 * The visitor's API key. It lives as long as the tab; on the device only where the visitor asked for that. A widget's
 * is in memory alone: it comes from the site around it each time.
 */
export const key = signal(inWidget ? '' : (sessionStorage.getItem(NAME) ?? (settings.keep ? localStorage.getItem(NAME) : null) ?? ''))
export const remembered = signal(!inWidget && localStorage.getItem(NAME) !== null)

export function useKey(value: string, remember: boolean): void {
  key.value = value
  if (inWidget) return
  sessionStorage.removeItem(NAME)
  localStorage.removeItem(NAME)
  if (value) (remember && settings.keep ? localStorage : sessionStorage).setItem(NAME, value)
  remembered.value = Boolean(value) && remember && settings.keep
}
