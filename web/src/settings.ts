/** What the gateway's configuration says of this page; it stands in the page as JSON. */
export interface Settings {
  title: string
  greeting: string
  notice: string
  suggestions: string[]
  model: string | null
  /** Whether a visitor may have things kept on this device. */
  keep: boolean
}

const written = document.getElementById('settings')?.textContent ?? ''

export const settings: Settings = {
  title: 'rag-gateway',
  greeting: 'What would you like to know?',
  notice: '',
  suggestions: [],
  model: null,
  keep: true,
  ...(JSON.parse(written || '{}') as Partial<Settings>),
}

export const inWidget = document.body.dataset.mode === 'widget'
