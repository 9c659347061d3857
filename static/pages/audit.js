// Every change by a person: who, when, what, why, and what differs.
import { html } from '../lib/html.js';
import { words } from '../lib/names.js';
import { useList } from '../lib/resource.js';
import { Empty, More, PageHead, ProblemBox } from '../ui/parts.js';
import { Entry } from './plugin.js';

const what = (entry) => [words((entry.action ?? '').replaceAll('.', ' ')), entry.subject ?? entry.plugin].filter(Boolean).join(': ');

export default function Audit() {
  const list = useList('/api/audit', { limit: 50 }, { pollMs: 10000 });
  return html`<${PageHead} title="Audit" lead="Every change that a person made, newest first." />
    <${ProblemBox} problem=${list.error} retry=${list.reload} />
    ${!list.loading && !list.error && list.items.length === 0 && html`<${Empty} title="No changes yet">Whoever flips a switch or changes a setting leaves a line here.<//>`}
    <ol class="history">${list.items.map((entry) => html`<${Entry} key=${entry.id ?? entry.at} entry=${entry} what=${what(entry)} />`)}</ol>
    <${More} list=${list} />`;
}
