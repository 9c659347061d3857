// The plugin's switch and settings, from the messages on `pos.plugins`. No I/O.

/** The newest message about one plugin. Before there is one, the plugin waits, inactive. */
export class Control {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    this.#clear();
  }

  #clear() {
    this.active = false;
    this.revision = 0;
    /** @type {any} */ this.settings = null;
    this.skipBefore = 0;
  }

  /**
   * Takes a record of the topic; answers whether it changed anything. Other plugins' records and lower revisions do not.
   * @param {string | null} key @param {Buffer | string | null} value
   */
  take(key, value) {
    if (key !== this.name) return false;
    if (value === null) {
      // The plugin was removed.
      const known = this.revision > 0;
      this.#clear();
      return known;
    }
    let data;
    try {
      ({ data } = JSON.parse(value.toString()));
    } catch {
      return false;
    }
    const told = data !== null && typeof data === "object" && "active" in data && "settings" in data;
    if (!told || (data.name ?? this.name) !== this.name || !Number.isInteger(data.revision) || data.revision <= this.revision) return false;
    this.active = data.active === true;
    this.revision = data.revision;
    this.settings = data.settings;
    this.skipBefore = Number.isInteger(data.skipBefore) ? data.skipBefore : 0;
    return true;
  }

  /** As the shared vectors show it. */
  effective() {
    const { active, revision, settings, skipBefore } = this;
    return { active, revision, settings, skipBefore };
  }
}
