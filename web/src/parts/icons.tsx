import type { JSX } from 'preact'

function icon(path: JSX.Element | JSX.Element[]) {
  return ({ size = 18 }: { size?: number }) => (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      {path}
    </svg>
  )
}

export const Plus = icon(<path d="M12 5v14M5 12h14" />)
export const Menu = icon(<path d="M4 7h16M4 12h16M4 17h10" />)
export const Cross = icon(<path d="M6 6l12 12M18 6L6 18" />)
export const Send = icon(<path d="M12 19V5M6 11l6-6 6 6" />)
export const Square = icon(<rect x="7" y="7" width="10" height="10" rx="1.5" class="solid" />)
export const Gear = icon([<circle cx="12" cy="12" r="3.2" />, <path d="M12 3v2.5M12 18.5V21M3 12h2.5M18.5 12H21M5.6 5.6l1.8 1.8M16.6 16.6l1.8 1.8M5.6 18.4l1.8-1.8M16.6 7.4l1.8-1.8" />])
export const Copy = icon([<rect x="9" y="9" width="11" height="11" rx="2" />, <path d="M5 15V6a2 2 0 0 1 2-2h8" />])
export const Check = icon(<path d="M5 12.5l4.5 4.5L19 7.5" />)
export const Up = icon(<path d="M7 11l4-7a2 2 0 0 1 2 2v4h5.2a1.8 1.8 0 0 1 1.8 2.1l-1.1 6.2a1.8 1.8 0 0 1-1.8 1.5H7M7 11v8.8M7 11H4.5v8.8H7" />)
export const Down = icon(<path d="M17 13l-4 7a2 2 0 0 1-2-2v-4H5.8A1.8 1.8 0 0 1 4 11.9l1.1-6.2A1.8 1.8 0 0 1 6.9 4.2H17M17 13V4.2M17 13h2.5V4.2H17" />)
export const Again = icon(<path d="M20 11a8 8 0 1 0-.6 4M20 4.5V11h-6.5" />)
export const Pencil = icon(<path d="M4 20l1-4.5L16.5 4a1.8 1.8 0 0 1 2.6 0l.9.9a1.8 1.8 0 0 1 0 2.6L8.5 19 4 20z" />)
export const Path = icon([<circle cx="6" cy="6" r="2.2" />, <circle cx="18" cy="18" r="2.2" />, <path d="M8.2 6H14a4 4 0 0 1 0 8h-4a4 4 0 0 0 0 4h5.8" class="thin" />])
export const Book = icon(<path d="M5 5.5A2.5 2.5 0 0 1 7.5 3H19v15H7.5A2.5 2.5 0 0 0 5 20.5zM5 20.5A2.5 2.5 0 0 0 7.5 21H19v-3" />)
export const Bin = icon(<path d="M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7" />)
export const Alert = icon([<circle cx="12" cy="12" r="9" />, <path d="M12 7.5v5.5M12 16.3v.2" />])
export const Clock = icon([<circle cx="12" cy="12" r="9" />, <path d="M12 7v5.2l3.5 2" />])
export const Shield = icon(<path d="M12 3l7.5 2.8v5.7c0 4.6-3.1 8-7.5 9.5-4.4-1.5-7.5-4.9-7.5-9.5V5.8z" />)
export const Chevron = icon(<path d="M7 10l5 5 5-5" />)
export const Lower = icon(<path d="M12 5v14M6 13l6 6 6-6" />)
