import { signal } from '@preact/signals'
import type { Answer } from './conversations'

/** What stands beside the conversation. */
export type Panel = { kind: 'sources'; answer: Answer; n: number | null; question: string } | { kind: 'why'; answer: Answer } | null

export const panel = signal<Panel>(null)
export const sidebar = signal(false)
/** The dialog that is open. */
export const dialog = signal<'settings' | 'knowledge' | null>(null)

let before: HTMLElement | null = null

export function show(wanted: NonNullable<Panel>): void {
  if (!panel.peek()) before = document.activeElement as HTMLElement | null
  panel.value = wanted
}

export function close(): void {
  panel.value = null
  before?.focus()
  before = null
}
