// Dark and light: the system's preference, or what the person chose.
import { signal } from './html.js';

const dark = matchMedia('(prefers-color-scheme: dark)');

const current = () => document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light');

/** `dark` or `light`. */
export const theme = signal(current());
dark.addEventListener('change', () => {
  theme.value = current();
});

/** Switches to the other one and remembers it. */
export function toggleTheme() {
  const next = theme.value === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('theme', next);
  } catch {
    // Without storage the choice lasts until the page is closed.
  }
  theme.value = next;
}

/** A colour of the style sheet as the canvas needs it. */
export function colour(name) {
  const probe = document.createElement('span');
  probe.className = `probe probe-${name}`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
