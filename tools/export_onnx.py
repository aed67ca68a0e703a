"""Write a trained recognizer to an ONNX file: ``python tools/export_onnx.py CONFIG CHECKPOINT --shape 1 3 8 224 224``.

The file takes normalised clips and gives the scores of testing; it is compared with PyTorch before it is written.
"""
import argparse
import sys

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from mmengine.config import DictAction  # noqa: E402

from lsef_plugins.compat.checkpoint_errors import CheckpointError  # noqa: E402
from lsef_plugins.engine import export  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='configuration file')
    parser.add_argument('checkpoint', help='weights to export')
    parser.add_argument('--shape', nargs='+', type=int, required=True, metavar='N',
                        help='shape of one sample as it leaves the data preprocessor: views 3 frames height width '
                             '(Recognizer2D: segments 3 height width; skeletons: views persons frames joints 3)')
    parser.add_argument('--output-file', '--out', default='model.onnx', help='the file (default: model.onnx)')
    parser.add_argument('--scores', choices=export.SCORES, default='predict',
                        help='predict: what testing gives, averaged over views (default); logits: the output of the '
                             'head for each view, as the deployment tools of MMAction2 give it')
    parser.add_argument('--fixed-batch', type=int, metavar='B', help='a fixed number of clips instead of any')
    parser.add_argument('--opset', type=int, help="version of the ONNX operators (default: the exporter's)")
    parser.add_argument('--device', default='cpu', help='where PyTorch computes while tracing (default: cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        told = export.export_checkpoint(
            args.config, args.checkpoint, args.output_file, args.shape, scores=args.scores, batch=args.fixed_batch,
            opset=args.opset, device=args.device, options=args.cfg_options)
    except (ValueError, CheckpointError) as error:  # LaunchError is a ValueError
        sys.exit(f'error: {error}')
    compared = 'not compared' if told.difference is None else f'{told.difference:.1e} from PyTorch'
    print(f'{told.path}: {told.nodes} nodes, {told.batch or "any number of"} clips, scores {compared}')


if __name__ == '__main__':
    main()
