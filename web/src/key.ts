import { signal } from '@preact/signals'
import { settings } from './settings'
import { read, write } from './storage'

/**
 * The visitor's API key. It lives as long as the tab; on the device only where the visitor asked for that. A widget's
 * is in memory alone: it comes from the site around it each time.
 */
export const key = signal(read('tab', 'key') ?? (settings.keep ? read('device', 'key') : null) ?? '')
export const remembered = signal(settings.keep && read('device', 'key') !== null)

export function useKey(value: string, remember: boolean): void {
  const onDevice = remember && settings.keep
  key.value = value
  write('tab', 'key', onDevice || !value ? null : value)
  write('device', 'key', onDevice && value ? value : null)
  remembered.value = onDevice && value !== ''
}
