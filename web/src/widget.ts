/**
 * What another site loads: a button, and with the first click a frame of the gateway's own origin.
 *
 *     <script src="https://gateway.example.com/widget.js" data-key="sk-gw-…" data-model="handbook" async></script>
 *
 * The site's scripts can't read the conversation, and nothing that a model says can touch the site. The key goes into
 * the frame by a message to the gateway's origin alone.
 */
interface Widget {
  open(): void
  close(): void
  /** Another key or token from now on, as of a visitor who has signed in. */
  setKey(key: string): void
}

;(() => {
  const script = document.currentScript as HTMLScriptElement | null
  if (!script || 'ragGateway' in window) return
  const home = new URL('.', script.src)
  const data = script.dataset
  const label = data.label || 'Ask a question'
  const right = data.position !== 'left'

  const host = document.createElement('div')
  const root = host.attachShadow({ mode: 'open' })
  const style = new CSSStyleSheet()
  style.replaceSync(`
    :host { all: initial; position: fixed; z-index: 2147483000; inset: auto ${right ? '20px' : 'auto'} 20px ${right ? 'auto' : '20px'}; }
    button { all: unset; box-sizing: border-box; display: grid; place-items: center; width: 56px; height: 56px; border-radius: 50%;
      background: #0f5c52; color: #fff; cursor: pointer; box-shadow: 0 6px 24px rgb(0 0 0 / .22); }
    button:hover { background: #0b4a42; }
    button:focus-visible { outline: 3px solid #fff; box-shadow: 0 0 0 6px #0f5c52; }
    svg { width: 26px; height: 26px; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
    iframe { position: fixed; inset: auto ${right ? '20px' : 'auto'} 88px ${right ? 'auto' : '20px'}; width: min(400px, calc(100vw - 40px));
      height: min(640px, calc(100dvh - 120px)); border: 0; border-radius: 16px; background: Canvas; box-shadow: 0 16px 56px rgb(0 0 0 / .28);
      color-scheme: normal; }
    iframe[hidden] { display: none; }
    @media (max-width: 520px) { iframe { inset: 0; width: 100%; height: 100%; border-radius: 0; } }
  `)
  root.adoptedStyleSheets = [style]

  const button = document.createElement('button')
  button.type = 'button'
  button.setAttribute('aria-label', label)
  button.setAttribute('aria-expanded', 'false')
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  path.setAttribute('d', 'M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 4v-4A2.5 2.5 0 0 1 4 13.5z')
  svg.append(path)
  button.append(svg)
  root.append(button)

  let frame: HTMLIFrameElement | null = null
  let ready = false
  let key = data.key ?? ''

  function tell(): void {
    if (!ready) return
    const { model, title, greeting, theme } = data
    frame!.contentWindow!.postMessage({ ragGateway: 'settings', key, model, title, greeting, theme }, home.origin)
  }

  function open(): void {
    if (!frame) {
      frame = document.createElement('iframe')
      frame.title = data.title || label
      frame.referrerPolicy = 'no-referrer'
      frame.allow = 'clipboard-write'
      frame.src = new URL('widget', home).href
      root.append(frame)
    }
    frame.hidden = false
    button.setAttribute('aria-expanded', 'true')
    frame.focus()
  }

  function close(): void {
    if (frame) frame.hidden = true
    button.setAttribute('aria-expanded', 'false')
    button.focus()
  }

  addEventListener('message', (event: MessageEvent<{ ragGateway?: string }>) => {
    if (!frame || event.source !== frame.contentWindow || event.origin !== home.origin) return
    if (event.data?.ragGateway === 'ready') {
      ready = true
      tell()
    } else if (event.data?.ragGateway === 'close') close()
  })
  button.addEventListener('click', () => (frame && !frame.hidden ? close() : open()))

  const widget: Widget = {
    open,
    close,
    setKey(given) {
      key = given
      tell()
    },
  }
  Object.defineProperty(window, 'ragGateway', { value: widget })

  const attach = () => document.body.append(host)
  if (document.body) attach()
  else addEventListener('DOMContentLoaded', attach)
})()
