import { render } from 'preact'
import { listen } from './embedding'
import { App } from './parts/App'
import { WidgetApp } from './parts/WidgetApp'
import { inWidget } from './settings'
import './theme'

const place = document.getElementById('app')!

if (inWidget) {
  listen()
  render(<WidgetApp />, place)
} else {
  render(<App />, place)
}
