import { Component, createRef } from 'preact'
import { useMemo } from 'preact/hooks'
import type { Token } from 'marked'
import { blocks, elements } from '../markdown'

/** A model's Markdown. While it grows, blocks that are complete stay the elements that they are. */
export function Text({ text, sources, growing }: { text: string; sources: number; growing: boolean }) {
  const tokens = useMemo(() => blocks(text), [text])
  return (
    <div class={growing ? 'prose growing' : 'prose'}>
      {tokens.map((token, order) => (
        <Block key={order} token={token} sources={sources} />
      ))}
    </div>
  )
}

interface BlockProps {
  token: Token
  sources: number
}

class Block extends Component<BlockProps> {
  private readonly place = createRef<HTMLDivElement>()

  override shouldComponentUpdate(next: BlockProps) {
    return next.token.raw !== this.props.token.raw || next.sources !== this.props.sources
  }

  override componentDidMount() {
    this.fill()
  }

  override componentDidUpdate() {
    this.fill()
  }

  private fill() {
    this.place.current!.replaceChildren(elements(this.props.token, this.props.sources))
  }

  override render() {
    return <div class="block" dir="auto" ref={this.place} />
  }
}
