const number = new Intl.NumberFormat('en')

export function duration(ms: number): string {
  if (ms < 1) return '<1 ms'
  if (ms < 1000) return `${Math.round(ms)} ms`
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`
}

export function tokens(prompt: number, completion: number): string {
  return `${number.format(prompt)} + ${number.format(completion)} tokens`
}

export function cost(usd: number): string {
  if (usd === 0) return 'no cost'
  return usd < 0.0001 ? '<$0.0001' : `$${usd < 0.1 ? usd.toFixed(4) : usd.toFixed(2)}`
}

export function many(count: number, one: string): string {
  return `${number.format(count)} ${one}${count === 1 ? '' : 's'}`
}

/** Put a text on the clipboard, and say so on the button for a moment. */
export async function copied(text: string, button: HTMLElement): Promise<void> {
  await navigator.clipboard?.writeText(text)
  const before = button.textContent
  button.textContent = 'Copied'
  setTimeout(() => (button.textContent = before), 1500)
}
