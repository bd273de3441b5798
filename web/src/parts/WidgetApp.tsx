import { useEffect } from 'preact/hooks'
import { begin as anew } from '../conversations'
import { standing } from '../models'
import { sayToSite, told } from '../embedding'
import { settings } from '../settings'
import { Away } from './App'
import { Composer } from './Composer'
import { SidePanel } from './SidePanel'
import { Thread } from './Thread'
import { Cross, Plus } from './icons'

export function WidgetApp() {
  useEffect(() => {
    const close = (event: KeyboardEvent) => event.key === 'Escape' && !event.defaultPrevented && sayToSite('close')
    addEventListener('keydown', close)
    return () => removeEventListener('keydown', close)
  }, [])
  const title = told.value.title || settings.title
  return (
    <div class="layout widget">
      <main>
        <header class="top">
          <h1 class="brand">{title}</h1>
          <span class="grow" />
          <button type="button" class="act" aria-label="New conversation" title="New conversation" onClick={anew}>
            <Plus />
          </button>
          <button type="button" class="act" aria-label="Close" title="Close (Esc)" onClick={() => sayToSite('close')}>
            <Cross />
          </button>
        </header>
        {standing.value === 'ready' && (
          <>
            <Thread greeting={told.value.greeting} />
            <Composer />
          </>
        )}
        {standing.value === 'failed' && <Away />}
        {standing.value === 'needs-key' && (
          <section class="welcome">
            <p role="alert">This site’s key is not accepted. Please tell whoever runs the site.</p>
          </section>
        )}
      </main>
      <SidePanel />
    </div>
  )
}
