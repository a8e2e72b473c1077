// Removes photos that cannot be loaded, so that the neutral picture behind them is seen.

document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement) event.target.remove();
}, true);
for (const image of [...document.images]) if (image.complete && image.naturalWidth === 0) image.remove();
