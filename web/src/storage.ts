import { inWidget } from './settings'

/**
 * The browser's storage, which may be switched off, and which a widget leaves alone: in another site's page it would be
 * shared by nobody, and refused by many browsers.
 */
type Kind = 'tab' | 'device'

function of(kind: Kind): Storage | null {
  if (inWidget) return null
  try {
    return kind === 'tab' ? sessionStorage : localStorage
  } catch {
    return null
  }
}

export function read(kind: Kind, name: string): string | null {
  return of(kind)?.getItem(`rag-gateway.${name}`) ?? null
}

/** With null, nothing is kept. */
export function write(kind: Kind, name: string, value: string | null): void {
  try {
    if (value === null) of(kind)?.removeItem(`rag-gateway.${name}`)
    else of(kind)?.setItem(`rag-gateway.${name}`, value)
  } catch {
    // It is full: what was to be kept lives as long as this page.
  }
}
