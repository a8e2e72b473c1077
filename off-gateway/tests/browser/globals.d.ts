// The vendored scripts of the page.
interface Window {
  uPlot: any;
}
