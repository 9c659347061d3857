// What became of recommendations: how often each was made and how often customers took it up.
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { useResource } from '../lib/resource.js';
import { Empty, ProblemBox } from '../ui/parts.js';

const SHOWN = 200;
const share = (one) => (one.made ? one.takenUp / one.made : 0);
const percent = (value) => value.toLocaleString(undefined, { style: 'percent', maximumFractionDigits: 1 });

/** A bar as long as the share, with the share beside it for those who do not see it. */
const Share = ({ value }) => html`<span class="share"><span class="bar" aria-hidden="true"><span style=${{ width: `${Math.min(100, value * 100)}%` }}></span></span>${percent(value)}</span>`;

/** The tab of purchase-recommender. */
export function Recommendations() {
  const { data, error, reload } = useResource('/api/recommendations/stats', {}, { pollMs: 10000 });
  const items = data?.items ?? [];
  const sum = items.reduce((all, one) => ({ made: all.made + one.made, takenUp: all.takenUp + one.takenUp }), { made: 0, takenUp: 0 });
  if (data && !items.length) return html`<${Empty} title="No recommendation yet">They are counted once their basket has ended.<//>`;
  return html`<${ProblemBox} problem=${error} retry=${reload} />
    ${data && html`<p class="muted">Counted in baskets that have ended. ${count(sum.made)} recommendations were made, ${percent(share(sum))} of them taken up.</p>
      <div class="card table-card section-title"><div class="scroll"><table class="list" data-recommendations><thead><tr><th scope="col">After</th><th scope="col">Recommended</th><th scope="col" class="num">Made</th><th scope="col" class="num">Taken up</th><th scope="col">Share</th></tr></thead>
      <tbody>${items.slice(0, SHOWN).map((one) => html`<tr key=${`${one.productId} ${one.recommended}`}><td class="mono">${one.productId}</td><td class="mono">${one.recommended}</td><td class="num">${count(one.made)}</td><td class="num">${count(one.takenUp)}</td><td><${Share} value=${share(one)} /></td></tr>`)}</tbody></table></div></div>
      ${items.length > SHOWN && html`<p class="muted">The ${count(SHOWN)} that were made most often, of ${count(items.length)}.</p>`}`}`;
}
