// Conditions that gave neither true nor false: a rule that looks at nothing must not go unseen.
import { html } from '../lib/html.js';
import { count, dateTime } from '../lib/format.js';
import { Badge } from '../ui/parts.js';

/** What the condition is called on the page. */
const title = (condition) => (condition.startsWith('rules.') ? `Rule ${condition.slice(6)}` : 'Which events: when');

/** The conditions of a plugin that failed for some events, which they counted as false for. */
export function Conditions({ conditions = [] }) {
  if (conditions.length === 0) return null;
  return html`<div class="card table-card" data-conditions><div class="scroll"><table class="list">
    <caption>Conditions that could not be decided; they counted as false</caption>
    <thead><tr><th>Condition</th><th class="num">Over budget</th><th class="num">Event too large</th><th class="num">Failed</th><th>Last</th><th>Event</th><th>Why</th></tr></thead>
    <tbody>${conditions.map((one) => html`<tr key=${one.condition} data-condition=${one.condition}>
      <td>${title(one.condition)}${one.overBudget > 0 && html` <${Badge} tone="bad">over budget<//>`}</td>
      <td class="num">${count(one.overBudget)}</td><td class="num">${count(one.tooLarge)}</td><td class="num">${count(one.failed)}</td>
      <td class="nowrap">${one.lastAt ? dateTime(one.lastAt) : ''}</td><td class="mono">${one.lastEvent}</td><td>${one.lastError}</td></tr>`)}</tbody></table></div></div>`;
}
