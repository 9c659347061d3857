// The icons of the navigation, drawn as strokes so that they take the text's colour.
import { html } from '../lib/html.js';

const PATHS = {
  plugins: 'M4 7h10M18 7h2M4 17h2M10 17h10M14 4.5v5M8 14.5v5',
  live: 'M3 12h4l2.5-6 4.5 12 2.5-6H21',
  alerts: 'M12 4 21 19H3L12 4ZM12 10v4M12 16.6v.2',
  orders: 'M5 8h14l-1 12H6L5 8ZM9 8V6.5a3 3 0 0 1 6 0V8M9.5 14l2 2 3.5-4',
  timesheets: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM12 7.5V12l3 2',
  terminal: 'M4 5h16v10H4zM9 19h6M12 15v4M7.5 8.5h5',
  deadletters: 'M4 6h16v12H4zM4 7l8 6 8-6',
  stores: 'M4 10v10h16V10M3 10l2-6h14l2 6M9.5 20v-6h5v6',
  audit: 'M6 3.5h9l4 4V20H6zM9 11h6M9 15h6',
  system: 'M4 18V9M9.3 18V5M14.7 18v-7M20 18v-4',
  theme: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 4v16M14.5 5v14M17 6.5v11',
  copy: 'M9 9h11v11H9zM15 9V4H4v11h5',
  menu: 'M4 7h16M4 12h16M4 17h16',
};

/** One icon, hidden from screen readers: the text beside it says the same. */
export const Icon = ({ name }) => html`<svg class="glyph" viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor"
  stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d=${PATHS[name]} /></svg>`;
