/** Which part of a passage an answer rests on: found by the words that they share, so that a reader's eye lands there. */
export interface Part {
  text: string
  marked: boolean
}

const WORD = /[\p{L}\p{N}_-]{3,}/gu

/** The sentences of an answer that name source `n`; the question where none does. */
export function claims(answer: string, n: number, question: string): string {
  const found = answer
    .split(/(?<=[.!?:]["”)]?(?:\s*\[\d{1,2}\])*)\s+|\n+/)
    .filter((sentence) => sentence.includes(`[${n}]`))
    .join(' ')
    .replace(/\[\d{1,2}\]/g, '')
  return found.trim() || question
}

/** The passage in pieces, the ones that say what `claim` says marked. */
export function evidence(passage: string, claim: string): Part[] {
  const wanted = words(claim)
  const pieces = passage.match(/[^\n.!?]*[.!?]*["”)`]*\s*\n*|\n+/g)?.filter(Boolean) ?? []
  const scores = pieces.map((piece) => {
    const own = words(piece)
    let common = 0
    for (const word of own) if (wanted.has(word)) common += 1
    return own.size > 0 ? common / Math.sqrt(own.size * Math.max(wanted.size, 1)) : 0
  })
  const best = Math.max(0, ...scores)
  const parts: Part[] = []
  pieces.forEach((text, order) => {
    const marked = best > 0.15 && scores[order]! >= Math.max(0.15, best * 0.6)
    const last = parts.at(-1)
    if (last && last.marked === marked) last.text += text
    else parts.push({ text, marked })
  })
  return parts
}

function words(text: string): Set<string> {
  return new Set([...text.toLowerCase().matchAll(WORD)].map((match) => match[0].replace(/s$/, '')))
}

/** Where a passage stands in its document, whatever its blanks and line ends; `[0, 0]` where it does not. */
export function located(document: string, passage: string): [number, number] {
  const [text, places] = collapsed(document)
  const [wanted] = collapsed(passage)
  const start = wanted.trim().slice(0, 2000)
  const at = start ? text.indexOf(start) : -1
  return at < 0 ? [0, 0] : [places[at]!, places[at + start.length - 1]! + 1]
}

function collapsed(text: string): [string, number[]] {
  let made = ''
  const places: number[] = []
  for (let at = 0; at < text.length; at += 1) {
    const blank = /\s/.test(text[at]!)
    if (blank && made.endsWith(' ')) continue
    made += blank ? ' ' : text[at]
    places.push(at)
  }
  return [made, places]
}
