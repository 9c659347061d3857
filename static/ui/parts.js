// Small parts that every page uses: problem box, badge, switch, empty state, tabs, page head.
import { html, useEffect, useRef } from '../lib/html.js';
import { arrival } from '../lib/router.js';

/** What went wrong: title and detail, announced to screen readers. */
export function ProblemBox({ problem, retry }) {
  if (!problem) return null;
  return html`<div class="problem" role="alert">
    <strong>${problem.title ?? 'Something went wrong'}</strong>
    <span>${problem.detail ?? problem.message}</span>
    ${retry && html`<button type="button" class="small" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** A word in a coloured pill. `tone`: ok, warn, bad, info or plain. */
export const Badge = ({ tone = 'plain', children }) => html`<span class=${`badge ${tone}`}>${children}</span>`;

/** The tone of a severity. */
export const severityTone = (severity) => ({ high: 'bad', medium: 'warn', low: 'info' })[severity] ?? 'plain';

/** An on/off switch with a name for screen readers. */
export function Switch({ on, label, onChange, busy = false, id }) {
  return html`<button type="button" role="switch" id=${id} class="switch" aria-checked=${on ? 'true' : 'false'} aria-label=${label}
    aria-busy=${busy ? 'true' : 'false'} disabled=${busy} onClick=${() => onChange(!on)}><span class="knob"></span></button>`;
}

/** What a list says when it has nothing. */
export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong><p>${children}</p></div>`;

/** Title, explanation and actions at the top of a page. The title takes the focus when the page is opened. */
export function PageHead({ title, lead, children }) {
  const heading = useRef(null);
  useEffect(() => {
    if (!arrival.pending) return;
    arrival.pending = false;
    heading.current.focus({ preventScroll: true });
  }, []);
  return html`<header class="page-head">
  <div><h1 tabindex="-1" ref=${heading}>${title}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
  ${children && html`<div class="actions">${children}</div>`}
</header>`;
}

/** Tabs as links, so that each has an address. `tabs` = `[{id, label, href, count}]`. */
export const Tabs = ({ tabs, current, label }) => html`<nav class="tabs" aria-label=${label}>
  ${tabs.map((tab) => html`<a key=${tab.id} href=${tab.href} aria-current=${tab.id === current ? 'page' : undefined}>${tab.label}</a>`)}
</nav>`;

/** A labelled filter that takes effect as one types. */
export function Filter({ label, value, onChange, options, list, type = 'text', placeholder, width }) {
  const set = (event) => onChange(event.currentTarget.value);
  const control = options
    ? html`<select value=${value ?? ''} onChange=${set}>${options.map((o) => html`<option key=${o.value} value=${o.value} selected=${(value ?? '') === o.value}>${o.label}</option>`)}</select>`
    : html`<input type=${type} value=${value ?? ''} list=${list} placeholder=${placeholder} onInput=${set} autocomplete="off" spellcheck=${false} />`;
  return html`<label class=${`filter ${width ?? ''}`}><span>${label}</span>${control}</label>`;
}

/** "Load more" under a list. */
export const More = ({ list }) => list.hasMore && html`<div class="more">
  <button type="button" disabled=${list.loading} onClick=${list.more}>${list.loading ? 'Loading…' : 'Show more'}</button>
</div>`;
