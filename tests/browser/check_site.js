// What cannot be read in an open document, a line each, where text has to be so many pixels high: in a page, or in an SVG
// picture that a page displays so many pixels wide on a ground of this color. And the pictures that a page displays.
async ([leastPixels, displayed, ground]) => {
  const LARGE_PIXELS = 24; // from where on less contrast is enough
  const LEAST_CONTRAST = 4.5, LEAST_CONTRAST_LARGE = 3;
  const MARGIN = 9; // how far a box may stick out of the column: headings have half a rem of negative margin and padding
  const root = document.documentElement, isPicture = root.localName === "svg";
  const faults = new Map();
  const styles = new Map();
  const styleOf = (e) => styles.get(e) ?? styles.set(e, getComputedStyle(e)).get(e);

  // Alike ones are one, with the first of them as an example.
  const named = (e) => [e.localName, ...e.classList].join(".");
  function fault(e, found, required) {
    const what = `${e.parentElement ? `${named(e.parentElement)} > ` : ""}${named(e)}`;
    const text = e.localName === "img" ? e.getAttribute("src") : e.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    const key = e.localName === "img" ? text : `${what}: ${found}`;
    if (!faults.has(key)) faults.set(key, `${what} “${text}”: ${found}; required: ${required}`);
  }

  const hidden = new Map([[null, false]]); // what only a screen reader reads
  function isHidden(e) {
    if (!hidden.has(e)) hidden.set(e, styleOf(e).clip === "rect(0px, 0px, 0px, 0px)" || isHidden(e.parentElement));
    return hidden.get(e);
  }
  const isSeen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !isHidden(e);

  // --- colours, as [red, green, blue, alpha] -------------------------------------------------------------------------
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const colors = new Map();
  function colorOf(css) {
    if (!colors.has(css)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = "transparent"; // stays, if the other is a pattern
      pixel.fillStyle = css;
      pixel.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
      colors.set(css, [r, g, b, a / 255]);
    }
    return colors.get(css);
  }
  const faded = ([r, g, b, a], opacity) => [r, g, b, a * opacity];
  function over([r, g, b, a], [R, G, B, A]) {
    const alpha = a + A * (1 - a);
    const mixed = (x, X) => (alpha ? (x * a + X * A * (1 - a)) / alpha : 0);
    return [mixed(r, R), mixed(g, G), mixed(b, B), alpha];
  }
  function luminance(color) {
    const [r, g, b] = color.slice(0, 3).map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function contrast(one, other) {
    const [least, most] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (most + 0.05) / (least + 0.05);
  }
  const readable = (color) => `rgb(${color.slice(0, 3).map(Math.round)})`;

  // What lies between an element and the paper, from the inside out; boxes that change nothing are left out.
  const layers = new Map([[null, []]]);
  function layersOf(e) {
    if (!layers.has(e)) {
      const color = colorOf(e instanceof SVGElement ? "transparent" : styleOf(e).backgroundColor);
      const opacity = parseFloat(styleOf(e).opacity);
      const below = layersOf(e.parentElement);
      layers.set(e, color[3] || opacity < 1 ? [{ color, opacity }, ...below] : below);
    }
    return layers.get(e);
  }
  // The shapes of a drawing that lie under the middle of a text.
  function shapesUnder(e) {
    const { left, top, width, height } = e.getBoundingClientRect();
    const hit = document.elementsFromPoint(left + width / 2, top + height / 2);
    return hit.filter((shape) => shape instanceof SVGGeometryElement && styleOf(shape).fill !== "none").map((shape) => {
      const { fill, fillOpacity, opacity } = styleOf(shape);
      return { color: faded(colorOf(fill), fillOpacity * opacity), opacity: 1 };
    });
  }
  const paper = colorOf(ground ?? "white");
  function seenColors(color, between) {
    let text = color, below = [0, 0, 0, 0];
    for (const layer of between) {
      text = faded(over(text, layer.color), layer.opacity);
      below = faded(over(below, layer.color), layer.opacity);
    }
    return [over(text, paper), over(below, paper)];
  }

  // --- texts ---------------------------------------------------------------------------------------------------------
  const scale = isPicture ? displayed / root.getBoundingClientRect().width : 1;
  function checkText(text) {
    const e = text.parentElement, style = styleOf(e), isDrawn = e instanceof SVGElement;
    const size = parseFloat(style.fontSize) * (isDrawn ? Math.sqrt(Math.abs(determinant(e.getScreenCTM()))) * scale : 1);
    if (size < leastPixels - 0.05) fault(e, `text of ${size.toFixed(1)} px`, `${leastPixels} px`);

    const color = faded(colorOf(isDrawn ? style.fill : style.color), isDrawn ? parseFloat(style.fillOpacity) : 1);
    const [seen, below] = seenColors(color, [...(isDrawn ? shapesUnder(e) : []), ...layersOf(e)]);
    const ratio = contrast(seen, below), least = size < LARGE_PIXELS ? LEAST_CONTRAST : LEAST_CONTRAST_LARGE;
    if (ratio < least) {
      fault(e, `contrast ${(Math.floor(100 * ratio) / 100).toFixed(2)}, ${readable(seen)} on ${readable(below)}`, `${least}`);
    }
  }
  const determinant = ({ a, b, c, d }) => a * d - b * c;

  // --- boxes ---------------------------------------------------------------------------------------------------------
  const limits = new Map();
  function limitsOf(e) {
    const column = e.closest("article");
    if (!limits.has(column)) {
      const { left, right } = column ? column.getBoundingClientRect() : { left: -Infinity, right: Infinity };
      limits.set(column, [Math.max(-0.5, left - MARGIN), Math.min(innerWidth + 0.5, right + MARGIN)]);
    }
    return limits.get(column);
  }
  const within = ({ left, right }, [least, most]) => left >= least && right <= most;
  // Whether something around an element may stick out: a box that scrolls, what is outside as a whole until it is opened, ...
  const excused = new Map([document.body, ...document.querySelectorAll("article")].map((e) => [e, false]));
  function isExcused(e) {
    if (!excused.has(e)) {
      const style = styleOf(e), box = e.getBoundingClientRect();
      const scrolls = ["auto", "scroll"].includes(style.overflowX) && within(box, limitsOf(e));
      const isDrawer = style.position === "fixed" && (box.right <= 0 || box.left >= innerWidth);
      excused.set(e, scrolls || isDrawer || isExcused(e.parentElement));
    }
    return excused.get(e);
  }
  const outside = new Set(); // whatever is in one of these is outside with it
  function checkBox(e, box) {
    if (!box.width || !box.height || within(box, limitsOf(e)) || !isSeen(e)) return;
    if (outside.has(e) || outside.has(e.parentElement)) return outside.add(e);
    outside.add(e);
    const [least, most] = limitsOf(e).map(Math.round);
    fault(e, `from ${Math.round(box.left)} to ${Math.round(box.right)} px`, `${least} to ${most} px`);
  }

  // --- the document --------------------------------------------------------------------------------------------------
  const pictures = [];
  if (!isPicture) {
    for (const details of document.querySelectorAll("details")) details.open = true;
    const images = [...document.images];
    for (const image of images) image.loading = "eager";
    await Promise.all(images.map((image) => image.decode().catch(() => {}))); // a missing one is found below
    for (const image of images.filter(isSeen)) {
      const url = image.currentSrc;
      if (!image.naturalWidth) fault(image, "no picture", "a picture");
      else if (/\.svg(#|$)/.test(url) || url.startsWith("data:image/svg")) {
        const [, below] = seenColors([0, 0, 0, 0], layersOf(image));
        pictures.push({ url, displayed: image.getBoundingClientRect().width, ground: readable(below) });
      }
    }
    for (const e of document.body.querySelectorAll(":not(svg *)")) {
      if (!isExcused(e)) checkBox(e, e.getBoundingClientRect());
    }
  }
  const texts = document.createTreeWalker(isPicture ? root : document.body, NodeFilter.SHOW_TEXT), range = new Range();
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const e = text.parentElement;
    if (!text.data.trim() || e.closest("script, style, noscript, title, desc") || !isSeen(e)) continue;
    checkText(text);
    if (isPicture || e instanceof SVGElement || isExcused(e)) continue;
    range.selectNodeContents(text);
    checkBox(e, range.getBoundingClientRect());
  }
  if (!isPicture && !outside.size && root.scrollWidth > innerWidth) {
    faults.set("page", `the page: ${root.scrollWidth} px wide; required: ${innerWidth} px`);
  }
  return { faults: [...faults.values()], pictures };
}
