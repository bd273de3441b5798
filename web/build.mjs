// Builds gateway/web from src: the page, the widget's frame and its script, their licences, and what they were made of.
// The same sources give the same bytes; tests/unit/gateway/api/test_page_files.py checks that they belong together.
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const here = import.meta.dirname
const out = join(here, '..', 'gateway', 'web')
const shared = { bundle: true, minify: true, charset: 'utf8', legalComments: 'none', banner: { js: '/* Licences of what is in here: page/LICENSES.txt */' }, target: ['es2022'], write: false, absWorkingDir: here }
const hash = (content) => createHash('sha256').update(content).digest('hex')

async function bundle(options) {
  const { outputFiles } = await build({ ...shared, ...options })
  return outputFiles[0].contents
}

const [script, style, widget] = await Promise.all([
  bundle({ entryPoints: ['src/main.tsx'], format: 'esm', jsx: 'automatic', jsxImportSource: 'preact', define: { 'process.env.NODE_ENV': '"production"' } }),
  bundle({ entryPoints: ['src/style/page.css'], banner: {} }),
  bundle({ entryPoints: ['src/widget.ts'], format: 'iife' }),
])
const icon = await readFile(join(here, 'src', 'icon.svg'))

await rm(out, { recursive: true, force: true })
await mkdir(join(out, 'assets'), { recursive: true })
const made = {}
async function write(name, content) {
  await writeFile(join(out, name), content)
  made[name] = hash(content)
}
const names = {}
for (const [name, ending, content] of [['app', 'js', script], ['app', 'css', style], ['icon', 'svg', icon]]) {
  const file = `${name}-${hash(content).slice(0, 12)}.${ending}`
  names[`${name}.${ending}`] = `page/${file}`
  await write(`assets/${file}`, content)
}
const shell = await readFile(join(here, 'src', 'page.html'), 'utf8')
for (const mode of ['index', 'widget']) {
  const html = shell.replace('__MODE__', mode === 'widget' ? 'widget' : 'page').replace(/__ASSET:([a-z.]+)__/g, (_, name) => names[name])
  await write(`${mode}.html`, html)
}
await write('widget.js', widget)
await write('assets/LICENSES.txt', await licences())
await writeFile(join(out, 'built.json'), JSON.stringify({ sources: await sources(), built: made }, null, 1) + '\n')

const size = (content) => `${(content.length / 1024).toFixed(1)} KiB, ${(gzipSync(content).length / 1024).toFixed(1)} KiB gzipped`
console.log(`app.js ${size(script)}\napp.css ${size(style)}\nwidget.js ${size(widget)}`)

/** What is in the files that browsers get, and under which terms. */
async function licences() {
  const { dependencies } = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'))
  const parts = ["The gateway's chat page holds these packages.\n"]
  for (const name of [...Object.keys(dependencies), '@preact/signals-core'].sort()) {
    const folder = join(here, 'node_modules', name)
    const { version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
    const file = (await readdir(folder)).find((each) => /^licen[cs]e(\.md|\.txt)?$/i.test(each))
    const text = file === undefined ? '' : (await readFile(join(folder, file), 'utf8')).trim()
    parts.push(`${'-'.repeat(72)}\n${name} ${version} (${license})\n\n${text}\n`)
  }
  return parts.join('\n')
}

/** The hash of each file that the built ones are made of. */
async function sources() {
  const found = {}
  const files = (await readdir(join(here, 'src'), { recursive: true, withFileTypes: true }))
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name).slice(here.length + 1))
  for (const name of ['build.mjs', 'package.json', 'package-lock.json', 'tsconfig.json', ...files].sort()) {
    found[name] = hash(await readFile(join(here, name)))
  }
  return found
}
