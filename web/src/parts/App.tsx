import { useEffect } from 'preact/hooks'
import { begin, fault, standing } from '../models'
import { restore } from '../conversations'
import { dialog, panel, sidebar } from '../panel'
import { settings } from '../settings'
import { Composer } from './Composer'
import { KnowledgeDialog } from './Knowledge'
import { SettingsDialog } from './Settings'
import { Sidebar } from './Sidebar'
import { SidePanel } from './SidePanel'
import { SignIn } from './SignIn'
import { Thread } from './Thread'
import { TopBar } from './TopBar'
import { useNarrow } from './narrow'

export function App() {
  const narrow = useNarrow()
  useEffect(() => {
    document.title = settings.title
    void restore()
    void begin()
  }, [])
  if (standing.value === 'needs-key') return <SignIn />
  if (standing.value === 'failed') return <Away />
  if (standing.value === 'starting') return <main class="starting" aria-busy="true" aria-label="Loading" />
  const behind = narrow && (sidebar.value || panel.value !== null)
  return (
    <div class={panel.value ? 'layout with-panel' : 'layout'}>
      <a class="skip" href="#question">
        To the question
      </a>
      {(!narrow || sidebar.value) && <Sidebar />}
      {narrow && sidebar.value && <div class="veil" onClick={() => (sidebar.value = false)} />}
      <main inert={behind}>
        <TopBar />
        <Thread />
        <Composer />
      </main>
      <SidePanel />
      {dialog.value === 'settings' && <SettingsDialog />}
      {dialog.value === 'knowledge' && <KnowledgeDialog />}
    </div>
  )
}

export function Away() {
  return (
    <main class="sign-in">
      <section>
        <h1>{fault.value?.status === 0 ? 'Nobody answers' : 'Not right now'}</h1>
        <p role="alert">{fault.value?.message}</p>
        <button type="button" class="button wide" onClick={() => void begin()}>
          Try again
        </button>
      </section>
    </main>
  )
}
