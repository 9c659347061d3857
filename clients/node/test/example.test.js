// The example without Kafka.
import assert from "node:assert/strict";
import { test } from "node:test";
import { voidCounter } from "../examples/void-counter.js";
import { Harness } from "../src/harness.js";

test("the limit is reported once for each basket", async () => {
  const till = new Harness(voidCounter, { limit: 2 });
  const given = { basketId: "B1", line: 1 };
  assert.deepEqual(await till.feed("pos.basket.item_voided", given), []);
  const [report] = await till.feed("pos.basket.item_voided", given);
  assert.deepEqual(report.data, { basketId: "B1", voids: 2 });
  assert.deepEqual(await till.feed("pos.basket.item_voided", given), []);
  await till.feed("pos.basket.started", { basketId: "B2" });
  assert.deepEqual(till.state("T0001"), {});
});
