/** Which part of a passage an answer rests on: found by the words that they share, so that a reader's eye lands there. */
const LEAST = 0.2 // of likeness; below it nothing is marked
const SENTENCE = /[^\n]+?(?:[.!?]["”)]*(?=\s|$)|(?=\n)|$)\s*/g
const WORD = /[\p{L}\p{N}_-]{3,}/gu

/** The sentences of an answer that name source `n`; the question where none does. */
export function claims(answer: string, n: number, question: string): string {
  const found = answer
    .split(/(?<=[.!?]["”)]?(?:\s*\[\d{1,2}\])*)\s+|\n+/)
    .filter((sentence) => sentence.includes(`[${n}]`))
    .join(' ')
    .replace(/\[\d{1,2}\]/g, '')
  return found.trim() || question
}

/** Marks those sentences within `place` that say what `claim` says. */
export function highlight(place: HTMLElement, claim: string): void {
  const wanted = words(claim)
  const { text, nodes } = textIn(place)
  const found = [...text.matchAll(SENTENCE)].map((match) => ({ from: match.index, to: match.index + match[0].trimEnd().length, score: score(match[0], wanted) }))
  const best = Math.max(0, ...found.map((each) => each.score))
  if (best < LEAST) return
  for (const { from, to, score } of found) if (score >= Math.max(LEAST, best * 0.6)) mark(nodes, from, to)
}

interface Place {
  node: Text
  at: number
}

/** The text as it is read, with a line for each block; and where in it each node begins. Headings say what all of it is about. */
function textIn(place: HTMLElement): { text: string; nodes: Place[] } {
  const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT)
  const nodes: Place[] = []
  let text = ''
  let block: Element | null = null
  while (walker.nextNode()) {
    const node = walker.currentNode as Text
    const own = node.parentElement!.closest('p, li, td, th, pre, h3, h4, h5, h6')
    if (!own || /^H\d$/.test(own.tagName) || node.parentElement!.closest('.code-bar')) continue
    if (own !== block && text) text += '\n'
    block = own
    nodes.push({ node, at: text.length })
    text += own.tagName === 'PRE' ? node.data : node.data.replaceAll('\n', ' ')
  }
  return { text, nodes }
}

function mark(nodes: Place[], from: number, to: number): void {
  for (const place of nodes) {
    const start = Math.max(from - place.at, 0)
    const end = Math.min(to - place.at, place.node.length)
    if (start >= end || !place.node.data.slice(start, end).trim()) continue
    const said = place.node.splitText(start)
    const rest = said.splitText(end - start)
    const made = document.createElement('mark')
    said.replaceWith(made)
    made.append(said)
    place.node = rest // later sentences are found in what is left
    place.at += end
  }
}

function score(sentence: string, wanted: Set<string>): number {
  const own = words(sentence)
  let common = 0
  for (const word of own) if (wanted.has(word)) common += 1
  return own.size > 1 ? common / Math.sqrt(own.size * Math.max(wanted.size, 1)) : 0
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
