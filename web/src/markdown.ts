import DOMPurify from 'dompurify'
import { Marked, type Token, type TokensList } from 'marked'

/**
 * A model's Markdown as elements. Nothing in it is trusted: it may repeat what somebody wrote into a document. HTML is
 * shown as text, pictures are links (to load one would tell its server what was asked), links are to http(s) alone and
 * open elsewhere, and what comes out goes through DOMPurify with a list of what may be there.
 */
const marked = new Marked({
  gfm: true,
  async: false,
  tokenizer: { def: () => undefined }, // `[1]: https://…` would make links of the marks that name sources
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ href, text }) => link(href, escaped(text || 'picture')),
    link({ href, tokens }) {
      return link(href, this.parser.parseInline(tokens))
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    code: ({ text, lang }) => `<pre title="${escaped(/^\S*/.exec(lang ?? '')?.[0] ?? '')}"><code>${escaped(text)}\n</code></pre>`,
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6) // below the page's own headings
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`
    },
  },
})

const ALLOWED = {
  ALLOWED_TAGS: [
    'a', 'b', 'blockquote', 'br', 'code', 'del', 'em', 'h3', 'h4', 'h5', 'h6', 'hr', 'i', 'li', 'ol', 'p', 'pre', 's',
    'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
  ],
  ALLOWED_ATTR: ['href', 'title', 'start', 'align'],
  ALLOWED_URI_REGEXP: /^(https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
} as const

export function blocks(text: string): Token[] {
  return (marked.lexer(text) as TokensList).filter((token) => token.type !== 'space')
}

/** One block of the text. `[n]` marks up to `sources` become buttons (`data-source`), later ones no more than marks; null: there are none. */
export function elements(block: Token, sources: number | null): DocumentFragment {
  const html = marked.parser([block])
  const made = DOMPurify.sanitize(html, { ...ALLOWED, ALLOWED_TAGS: [...ALLOWED.ALLOWED_TAGS], ALLOWED_ATTR: [...ALLOWED.ALLOWED_ATTR] })
  for (const anchor of made.querySelectorAll('a')) {
    anchor.target = '_blank'
    anchor.rel = 'noopener noreferrer nofollow'
    anchor.title = anchor.href
  }
  for (const table of made.querySelectorAll('table')) table.replaceWith(scrolling(table.cloneNode(true) as HTMLElement, 'Table'))
  for (const pre of made.querySelectorAll('pre')) dress(pre)
  if (sources !== null) cite(made, sources)
  return made
}

function dress(pre: HTMLElement): void {
  const language = pre.title
  pre.removeAttribute('title')
  const box = document.createElement('div')
  const bar = document.createElement('div')
  const copy = document.createElement('button')
  box.className = 'code'
  bar.className = 'code-bar'
  copy.type = 'button'
  copy.textContent = 'Copy'
  copy.dataset.copy = ''
  copy.setAttribute('aria-label', 'Copy this code')
  bar.append(Object.assign(document.createElement('span'), { textContent: language || 'text' }), copy)
  pre.replaceWith(box)
  box.append(bar, scrolling(pre, language ? `Code in ${language}` : 'Code'))
}

/** What may be wider than the screen can be scrolled with the keyboard too. */
function scrolling(element: HTMLElement, label: string): HTMLElement {
  const box = document.createElement('div')
  box.className = 'scrolling'
  box.tabIndex = 0
  box.setAttribute('role', 'region')
  box.setAttribute('aria-label', label)
  box.append(element)
  return box
}

// As the gateway reads them: an index behind a name, a parenthesis or a bracket is none.
const MARK = /(?<![\w)](?:\[\d{1,2}\])*)\[(\d{1,2})\]/g

function cite(made: DocumentFragment, sources: number): void {
  const walker = document.createTreeWalker(made, NodeFilter.SHOW_TEXT)
  const texts: Text[] = []
  while (walker.nextNode()) {
    const text = walker.currentNode as Text
    if (!text.parentElement?.closest('code, a, button') && text.data.includes('[')) texts.push(text)
  }
  for (const text of texts) {
    const parts: (Node | string)[] = []
    let at = 0
    for (const mark of text.data.matchAll(MARK)) {
      const n = Number(mark[1])
      if (n < 1) continue
      parts.push(text.data.slice(at, mark.index).replace(/ $/, '\u00a0'), n <= sources ? button(n) : waiting(n))
      at = mark.index + mark[0].length
    }
    if (parts.length > 0) text.replaceWith(...parts, text.data.slice(at))
  }
}

function button(n: number): HTMLElement {
  const made = document.createElement('button')
  made.type = 'button'
  made.className = 'cite'
  made.dataset.source = String(n)
  made.textContent = String(n)
  made.setAttribute('aria-label', `Source ${n}`)
  return made
}

function waiting(n: number): HTMLElement {
  return Object.assign(document.createElement('span'), { className: 'cite', textContent: String(n) })
}

function link(href: string, shown: string): string {
  // What is relative would be a path of this gateway, where the document's page is not.
  return /^(https?:|mailto:)/i.test(href) ? `<a href="${escaped(href)}">${shown}</a>` : shown
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
}
