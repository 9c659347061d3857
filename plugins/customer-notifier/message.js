// What is sent for an event: JSON for a webhook, lines of text for a receipt printer.

/** @param {any} value @param {number} width */
const line = (value, width) => String(value ?? "").replaceAll(/\s+/g, " ").trim().slice(0, width);

/** @param {any} event @param {any} settings @returns {{contentType: string, body: string} | null} null: nothing to say */
export function messageOf(event, settings) {
  const { data } = event;
  const about = { event: event.id, type: event.type, at: event.time, storeId: event.store, terminalId: event.terminal, basketId: data.basketId };
  if (event.type === "pos.customer.enriched") {
    if (!settings.customers) return null;
    if (settings.format === "receipt") {
      const name = data.customer?.name ?? data.customer?.firstName ?? data.customerId;
      return text([`Welcome, ${name}`, data.customer?.tier && `Your level: ${data.customer.tier}`], settings.width);
    }
    return json({ ...about, customerId: data.customerId, customer: data.customer });
  }
  if (!settings.recommendations || !(data.recommended?.length > 0)) return null;
  if (settings.format === "receipt") {
    return text(["Goes well with it:", ...data.recommended.map((/** @type {any} */ { productId, reason }) => `- ${productId} ${reason ?? ""}`)], settings.width);
  }
  return json({ ...about, productId: data.productId, recommended: data.recommended });
}

/** @param {any} value */
const json = (value) => ({ contentType: "application/json", body: JSON.stringify(value) });

/** @param {any[]} lines @param {number} width */
const text = (lines, width) => ({
  contentType: "text/plain; charset=utf-8",
  body: `${lines.filter(Boolean).map((item) => line(item, width)).join("\n")}\n`,
});
