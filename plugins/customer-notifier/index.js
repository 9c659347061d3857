import { notifier } from "./notifier.js";

await notifier().run();
